import pytest
import torch
from torch import nn

from lmexp.config.model import ModelConfig
from lmexp.config.optimizer import AdamWConfig, SGDConfig
from lmexp.config.schema import build
from lmexp.optim.groups import decay_groups, split_parameters
from tests.optim.setups import RECURRENT, TIED, UNTIED, assert_equal_weights, new_model, train

DECAYED = {
    "tied": {"qkv.weight", "output.weight", "up.weight", "down.weight"},
    "untied": {"qkv.weight", "output.weight", "up.weight", "down.weight", "head.weight"},
    "recurrent": {"weight_ih_l0", "weight_hh_l0", "weight_ih_l1", "weight_hh_l1", "projection.weight"},
}


@pytest.mark.parametrize(("kind", "config"), [("tied", TIED), ("untied", UNTIED), ("recurrent", RECURRENT)])
def test_matrices_are_decayed_and_embeddings_norms_and_biases_are_not(kind: str, config: ModelConfig) -> None:
    model = new_model(config)
    matrices, rest = split_parameters(model)
    name_of = {id(weight): name for name, weight in model.named_parameters()}
    assert {id(weight) for weight in matrices + rest} == set(name_of)
    assert len(matrices + rest) == len(name_of)
    for weight in matrices:
        assert name_of[id(weight)].endswith(tuple(DECAYED[kind])), name_of[id(weight)]
    for weight in rest:
        assert not name_of[id(weight)].endswith(tuple(DECAYED[kind])), name_of[id(weight)]


def test_a_model_without_matrices_has_one_group() -> None:
    groups = decay_groups(nn.Embedding(3, 2), 0.1)
    assert [group["weight_decay"] for group in groups] == [0.0]


def two_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Return what is decayed and what is not, by name."""
    decayed = [w for name, w in model.named_parameters() if name.endswith(tuple(DECAYED["untied"]))]
    rest = [w for name, w in model.named_parameters() if not name.endswith(tuple(DECAYED["untied"]))]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]


def test_adamw_equals_that_of_torch_for_ten_steps() -> None:
    ours, theirs = new_model(), new_model()
    config = AdamWConfig(learning_rate=0.01, weight_decay=0.5, beta1=0.8, beta2=0.95, epsilon=1e-6)
    plain = torch.optim.AdamW(two_groups(theirs, 0.5), lr=0.01, betas=(0.8, 0.95), eps=1e-6, foreach=False)
    train(ours, build(config, model=ours), range(10))
    train(theirs, plain, range(10))
    assert_equal_weights(ours, theirs)


def test_adamw_equals_its_formula_for_ten_steps() -> None:
    ours, by_hand = new_model(), new_model()
    train(ours, build(AdamWConfig(learning_rate=0.01, weight_decay=0.5), model=ours), range(10))
    groups = two_groups(by_hand, 0.5)
    decay_of = {id(w): group["weight_decay"] for group in groups for w in group["params"]}
    means = {id(w): torch.zeros_like(w) for w in by_hand.parameters()}
    squares = {id(w): torch.zeros_like(w) for w in by_hand.parameters()}
    steps_done = 0

    class ByHand(torch.optim.Optimizer):
        @torch.no_grad()
        def step(self) -> None:
            nonlocal steps_done
            steps_done += 1
            for w in by_hand.parameters():
                means[id(w)] = 0.9 * means[id(w)] + 0.1 * w.grad
                squares[id(w)] = 0.99 * squares[id(w)] + 0.01 * w.grad**2
                mean, square = means[id(w)] / (1 - 0.9**steps_done), squares[id(w)] / (1 - 0.99**steps_done)
                w.copy_(w - 0.01 * decay_of[id(w)] * w - 0.01 * mean / (square.sqrt() + 1e-8))

    train(by_hand, ByHand(by_hand.parameters(), {}), range(10))
    assert_equal_weights(ours, by_hand)


def test_sgd_equals_that_of_torch_for_ten_steps() -> None:
    ours, theirs = new_model(), new_model()
    config = SGDConfig(learning_rate=0.1, weight_decay=0.05, momentum=0.8)
    train(ours, build(config, model=ours), range(10))
    train(theirs, torch.optim.SGD(two_groups(theirs, 0.05), lr=0.1, momentum=0.8, foreach=False), range(10))
    assert_equal_weights(ours, theirs)


def test_sgd_without_momentum_is_a_step_down_the_gradient() -> None:
    model, other = new_model(), new_model()
    train(model, build(SGDConfig(learning_rate=0.1, momentum=0.0), model=model), range(1))
    train(other, torch.optim.SGD(other.parameters(), lr=0.0), range(1))
    with torch.no_grad():
        for weight in other.parameters():
            weight.sub_(0.1 * weight.grad)
    assert_equal_weights(model, other)
