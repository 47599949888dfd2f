"""BERT is transformers' BertForMaskedLM, to 1e-5."""

import math
import warnings
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from lmexp.config.model import GELU, BERTConfig
from lmexp.interchange.bert import NAMES
from lmexp.models.bert import BERT
from lmexp.models.heads import IGNORE
from tests.models.setups import CONTEXT_LENGTH, VOCAB_SIZE, assert_close, new_model, random_tokens

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import transformers

VARIANTS: dict[str, dict[str, Any]] = {
    "as published": {},
    "tanh GELU, three token types": {"hidden_act": "gelu_new", "type_vocab_size": 3},
    "untied, narrow MLP, another epsilon": {
        "tie_word_embeddings": False,
        "intermediate_size": 20,
        "layer_norm_eps": 1e-3,
    },
}
EVERY_VARIANT = pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS.keys())


def twins(changes: dict[str, Any]) -> tuple[BERT, Any]:
    """Return our model and transformers' own with the same weights, large enough that a wrong one shows."""
    theirs_config = transformers.BertConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=CONTEXT_LENGTH,
        **{"intermediate_size": 64} | changes,
    )
    torch.manual_seed(0)
    theirs = transformers.BertForMaskedLM(theirs_config).eval()
    with torch.no_grad():
        for weight in theirs.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.3)
    config = BERTConfig(
        num_layers=3,
        hidden_size=16,
        num_heads=4,
        mlp_size=theirs_config.intermediate_size,
        num_token_types=theirs_config.type_vocab_size,
        norm_epsilon=theirs_config.layer_norm_eps,
        gelu=GELU.exact if theirs_config.hidden_act == "gelu" else GELU.tanh,
        tie_embeddings=theirs_config.tie_word_embeddings,
    )
    ours, weights = new_model(config).eval(), theirs.state_dict()
    weights["cls.predictions.bias"] = weights["cls.predictions.decoder.bias"]  # the one in use where they are not tied
    ours.load_state_dict({name: weights[_their_name(name)] for name in ours.state_dict()})
    return ours, theirs


def _their_name(name: str) -> str:
    number = next((part for part in name.split(".") if part.isdigit()), "")
    return NAMES[name.replace(f".{number}.", ".{}.") if number else name].replace("{}", number)


@EVERY_VARIANT
def test_hidden_states_and_logits_equal_those_of_transformers(changes: dict[str, Any]) -> None:
    ours, theirs = twins(changes)
    tokens = random_tokens(64, 11)
    hidden, _ = ours(tokens)
    assert_close(hidden, theirs.bert(tokens).last_hidden_state)
    assert_close(ours.head.logits(hidden), theirs(tokens).logits)


@EVERY_VARIANT
def test_padded_rows_equal_those_of_transformers_under_its_mask(changes: dict[str, Any]) -> None:
    ours, theirs = twins(changes)
    tokens, lengths = random_tokens(8, 12), torch.arange(5, 13)
    is_text = torch.arange(12) < lengths[:, None]
    hidden, _ = ours(tokens, None, is_text.long())
    expected = theirs.bert(tokens, attention_mask=is_text.long()).last_hidden_state
    assert_close(hidden[is_text], expected[is_text])


def test_loss_and_gradients_equal_those_of_transformers() -> None:
    ours, theirs = twins({})
    tokens, targets = random_tokens(4, 9), random_tokens(4, 9, seed=2)
    targets[:, ::2] = IGNORE
    loss = ours.head.nll_sum(ours(tokens)[0], targets) / (targets != IGNORE).sum()
    expected = theirs(tokens, labels=targets).loss
    assert_close(loss, expected)
    loss.backward()
    expected.backward()
    gradients = dict(theirs.named_parameters())
    for name, weight in ours.named_parameters():
        assert_close(weight.grad, gradients[_their_name(name)].grad)


@pytest.mark.parametrize("loss", ["dense", "chunked"])
def test_every_way_to_the_loss_goes_through_the_layer_of_the_head(loss: str) -> None:
    model = new_model(BERTConfig(num_layers=1, hidden_size=16), loss=type(BERTConfig().loss)[loss])
    hidden, targets = torch.randn(2, 5, 16), random_tokens(2, 5)
    head = model.head
    features = head.norm(F.gelu(head.dense(hidden)))
    expected = F.cross_entropy((features @ head.weight.T + head.bias).flatten(0, 1), targets.flatten(), reduction="sum")
    assert_close(head.nll_sum(hidden, targets), expected)
    assert_close(head.nll(hidden, targets).sum(), expected)


def test_weights_begin_as_published() -> None:
    model = new_model(BERTConfig(num_layers=2, hidden_size=96))
    for name, weight in model.named_parameters():
        if name.endswith("bias"):
            assert (weight == 0).all(), name
        elif "norm" in name:
            assert (weight == 1).all(), name
        else:
            assert weight.std().item() == pytest.approx(0.02, rel=0.12), name


def test_a_document_longer_than_the_positions_is_refused() -> None:
    model = new_model(BERTConfig(num_layers=1, hidden_size=8))
    with pytest.raises(IndexError):
        model(random_tokens(1, CONTEXT_LENGTH + 1))


def test_parameters_and_operations_by_hand() -> None:
    v, t, c, layers = VOCAB_SIZE, CONTEXT_LENGTH, 8, 3
    matrices = layers * (4 * c * c + 2 * c * 4 * c)
    biases_and_norms = layers * (4 * c + 5 * c + 4 * c) + 2 * c
    head = c * c + c + 2 * c + v
    model = new_model(BERTConfig(num_layers=layers, hidden_size=c))
    assert model.num_parameters() == (v + t + 2) * c + matrices + biases_and_norms + head
    assert model.flops_per_token(t) == 6 * (matrices + c * c + v * c) + 12 * layers * c * t


def test_the_first_loss_is_that_of_even_odds_for_a_wide_model_too() -> None:
    model = new_model(BERTConfig(num_layers=2, hidden_size=128))
    tokens = random_tokens(4, 16)
    loss = model.head.nll(model(tokens)[0], tokens).mean()
    assert loss.item() == pytest.approx(math.log(VOCAB_SIZE), abs=0.15)
