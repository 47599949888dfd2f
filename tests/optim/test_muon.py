from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from lmexp.config.model import ModelConfig, TransformerFastConfig
from lmexp.config.optimizer import MuonConfig
from lmexp.config.schema import build
from lmexp.models.layers import StackedLinear
from lmexp.models.state import LanguageModel
from lmexp.optim.muon import COEFFICIENTS, Muon, orthogonalize
from tests.optim.setups import RECURRENT, TIED, UNTIED, assert_equal_weights, new_model, train, weights_of

CONFIG = MuonConfig(learning_rate=0.02, adamw_learning_rate=3e-3, weight_decay=0.1)
BY_MUON = ("qkv.weight", "output.weight", "up.weight", "down.weight")


def new_muon(matrices: list[nn.Parameter], rest: list[nn.Parameter], **changes: Any) -> Muon:
    settings: dict[str, Any] = {
        "lr": 0.02,
        "weight_decay": 0.1,
        "momentum": 0.95,
        "newton_schulz_steps": 5,
        "adamw_lr": 3e-3,
    }
    return Muon(matrices, rest, betas=(0.9, 0.99), eps=1e-8, **(settings | changes))


def orthogonalize_in_float32(matrix_RC: Tensor, steps: int = 5) -> Tensor:
    """x <- a x + (b A + c A^2) x with A = x x^T, from x = matrix / ||matrix||_F (Jordan et al. 2024)."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrix_RC / matrix_RC.norm()
    if x.shape[0] > x.shape[1]:
        return orthogonalize_in_float32(matrix_RC.T, steps).T
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x


@pytest.mark.parametrize("shape", [(8, 8), (8, 24), (24, 8), (1, 8)])
def test_singular_values_of_an_update_are_near_1(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    update = orthogonalize(torch.randn(3, *shape) * 1e-3, 5)
    values = torch.linalg.svdvals(update)
    assert values.min() > 0.6
    assert values.max() < 1.3


@pytest.mark.parametrize("shape", [(8, 8), (8, 24), (24, 8)])
def test_an_update_keeps_the_singular_vectors_to_bfloat16(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    matrices = torch.randn(3, *shape)
    expected = torch.stack([orthogonalize_in_float32(matrix) for matrix in matrices])
    assert (orthogonalize(matrices, 5) - expected).abs().max() < 0.03
    assert (1 - torch.cosine_similarity(orthogonalize(matrices, 5).flatten(1), expected.flatten(1))).max() < 1e-3


def test_the_iteration_has_the_published_coefficients() -> None:
    assert COEFFICIENTS == (3.4445, -4.7750, 2.0315)


def test_an_update_of_zeros_stays_zero() -> None:
    assert (orthogonalize(torch.zeros(2, 3, 4), 5) == 0).all()


@pytest.mark.parametrize("config", [TIED, UNTIED, RECURRENT], ids=["tied", "untied", "recurrent"])
def test_muon_moves_the_matrices_inside_and_adamw_all_else(config: ModelConfig) -> None:
    model = new_model(config)
    optimizer = build(CONFIG, model=model)
    by_muon = {id(weight) for weight in optimizer.param_groups[0]["params"]}
    for name, weight in model.named_parameters():
        is_inside = name.endswith((*BY_MUON, "projection.weight")) or ".weight_" in name
        assert (id(weight) in by_muon) == is_inside, name
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(model.parameters()))


def test_muon_equals_its_formula_for_ten_steps() -> None:
    """Matrix by matrix: the mean of gradients, Nesterov's mix, the same orthogonalize, scaled, decayed."""
    ours, by_hand = new_model(), new_model()
    train(ours, build(CONFIG, model=ours), range(10))
    inside = {name: w for name, w in by_hand.named_parameters() if name.endswith(BY_MUON)}
    outside = [w for name, w in by_hand.named_parameters() if name not in inside]
    adamw = torch.optim.AdamW(outside, lr=3e-3, betas=(0.9, 0.99), eps=1e-8, weight_decay=0.0, fused=True)
    means = {name: torch.zeros_like(w) for name, w in inside.items()}

    class ByHand(torch.optim.Optimizer):
        @torch.no_grad()
        def step(self) -> None:
            for name, w in inside.items():
                means[name] = means[name].lerp(w.grad, 0.05)  # (1 - 0.05) mean + 0.05 gradient
                update = orthogonalize(w.grad.lerp(means[name], 0.95)[None], 5)[0]
                scale = max(1, w.shape[0] / w.shape[1]) ** 0.5
                w.copy_(w * (1 - 0.02 * 0.1) - 0.02 * scale * update)
            adamw.step()

    train(by_hand, ByHand(by_hand.parameters(), {}), range(10))
    assert_equal_weights(ours, by_hand)


def test_matrices_that_a_layer_holds_side_by_side_are_moved_as_if_alone() -> None:
    stacked, alone = StackedLinear(8, 6, parts=3), [nn.Linear(8, 6, bias=False) for _ in range(3)]
    for linear, weight in zip(alone, stacked.weight.split(6), strict=True):
        linear.weight.data.copy_(weight)
    together = new_muon([stacked.weight], [], parts=[3])
    apart = new_muon([linear.weight for linear in alone], [])
    for step in range(3):
        gradient = torch.randn(18, 8, generator=torch.Generator().manual_seed(step))
        stacked.weight.grad = gradient.clone()
        for linear, part in zip(alone, gradient.split(6), strict=True):
            linear.weight.grad = part.clone()
        together.step()
        apart.step()
    torch.testing.assert_close(stacked.weight, torch.cat([linear.weight for linear in alone]), rtol=1e-5, atol=1e-6)


def test_the_projections_of_transformer_fast_are_known_as_three_matrices() -> None:
    optimizer = build(CONFIG, model=new_model(TransformerFastConfig(num_layers=1, hidden_size=16)))
    matrices = optimizer.param_groups[0]
    assert {tuple(w.shape): parts for w, parts in zip(matrices["params"], matrices["parts"], strict=True)} == {
        (48, 16): 3,
        (16, 16): 1,
        (64, 16): 1,
        (16, 64): 1,
    }


def test_bfloat16_iterations_are_near_those_of_float32() -> None:
    matrices = torch.randn(3, 16, 24)
    exact, coarse = (orthogonalize(matrices, 5, in_bf16=in_bf16).flatten(1) for in_bf16 in (None, True))
    assert coarse.dtype == torch.float32
    assert not torch.equal(exact, coarse)
    assert torch.cosine_similarity(exact, coarse).min() > 0.999


def test_the_adamw_part_is_exactly_that_of_torch_for_ten_steps() -> None:
    """With the same gradients: both models are moved by Muon, the rest of one by torch's own AdamW."""
    ours, theirs = new_model(), new_model()
    rest = [w for name, w in theirs.named_parameters() if not name.endswith(BY_MUON)]
    matrices = [w for name, w in theirs.named_parameters() if name.endswith(BY_MUON)]
    muon = new_muon(matrices, [])
    adamw = torch.optim.AdamW(rest, lr=3e-3, betas=(0.9, 0.99), eps=1e-8, weight_decay=0.0, fused=True)

    class Both(torch.optim.Optimizer):
        def step(self) -> None:
            muon.step()
            adamw.step()

    train(ours, build(CONFIG, model=ours), range(10))
    train(theirs, Both(theirs.parameters(), {}), range(10))
    assert_equal_weights(ours, theirs, exactly=True)


def half_way(model: LanguageModel, max_steps: int) -> tuple[Muon, LambdaLR]:
    optimizer = build(CONFIG, model=model)
    return optimizer, LambdaLR(optimizer, lambda step: 1 - step / max_steps)


def test_training_goes_on_from_a_saved_state_bit_by_bit(tmp_path: Path) -> None:
    whole, first, second = new_model(), new_model(), new_model()
    optimizer, schedule = half_way(whole, 20)
    train(whole, optimizer, range(10), schedule.step)

    optimizer, schedule = half_way(first, 20)
    train(first, optimizer, range(5), schedule.step)
    saved = {"model": first.state_dict(), "optimizer": optimizer.state_dict(), "schedule": schedule.state_dict()}
    torch.save(saved, tmp_path / "state.pt")

    loaded = torch.load(tmp_path / "state.pt", weights_only=True)
    optimizer, schedule = half_way(second, 20)
    second.load_state_dict(loaded["model"])
    optimizer.load_state_dict(loaded["optimizer"])
    schedule.load_state_dict(loaded["schedule"])
    train(second, optimizer, range(5, 10), schedule.step)
    assert_equal_weights(second, whole, exactly=True)


def test_the_saved_state_holds_the_moments_of_both_parts() -> None:
    model = new_model()
    optimizer = build(CONFIG, model=model)
    train(model, optimizer, range(2))
    kinds = {frozenset(state) for state in optimizer.state_dict()["state"].values()}
    assert kinds == {frozenset({"momentum"}), frozenset({"step", "exp_avg", "exp_avg_sq"})}
    assert len(optimizer.state_dict()["state"]) == len(list(model.parameters()))


def test_a_schedule_moves_both_learning_rates() -> None:
    model = new_model()
    optimizer = build(CONFIG, model=model)
    schedule = LambdaLR(optimizer, lambda step: 0.0 if step else 1.0)
    train(model, optimizer, range(1), schedule.step)
    assert [group["lr"] for group in optimizer.param_groups] == [0.0, 0.0]
    before = weights_of(model)
    train(model, optimizer, range(1, 3), schedule.step)
    for name, weight in model.named_parameters():
        assert torch.equal(weight, before[name]), name


def test_weights_without_a_gradient_stay_as_they_are() -> None:
    model = new_model()
    frozen = {"blocks.0.mlp.up.weight", "embedding.weight", "norm.weight"}
    for name, weight in model.named_parameters():
        weight.requires_grad_(name not in frozen)
    before = weights_of(model)
    train(model, build(CONFIG, model=model), range(2))
    for name, weight in model.named_parameters():
        assert torch.equal(weight, before[name]) == (name in frozen), name


@pytest.mark.parametrize("part", ["matrices", "rest"])
def test_muon_works_when_one_of_its_parts_is_empty(part: str) -> None:
    weight = nn.Parameter(torch.eye(3))
    optimizer = new_muon([weight], []) if part == "matrices" else new_muon([], [weight])
    weight.square().sum().backward()
    optimizer.step()
    assert not torch.equal(weight, torch.eye(3))
    assert len(optimizer.param_groups) == 1


def test_a_matrix_moves_by_the_learning_rate_in_spectral_norm() -> None:
    torch.manual_seed(0)
    for rows, columns in ((6, 6), (24, 6), (6, 24)):
        weight = nn.Parameter(torch.zeros(rows, columns))
        weight.grad = torch.randn(rows, columns)
        new_muon([weight], [], lr=0.5, weight_decay=0.0).step()
        expected = 0.5 * max(1, rows / columns) ** 0.5
        assert 0.6 * expected < torch.linalg.matrix_norm(weight, 2) < 1.3 * expected


def test_a_step_returns_the_loss_of_its_closure() -> None:
    weight = nn.Parameter(torch.ones(2, 2))
    optimizer = new_muon([weight], [])

    def closure() -> Tensor:
        loss = weight.sum()
        loss.backward()
        return loss

    assert optimizer.step(closure) == 4
