import pytest
import torch

from lmexp.config.model import BERTConfig, EncoderConfig, TransformerConfig
from tests.models.setups import CONTEXT_LENGTH, assert_close, new_model, random_tokens, rough_model
from tests.models.test_transformer import logits_by_formula

SMALL = {"num_layers": 2, "hidden_size": 16}
ENCODERS = [EncoderConfig(**SMALL), EncoderConfig(**SMALL, num_key_value_heads=2, head_size=6), BERTConfig(**SMALL)]
EVERY_ENCODER = pytest.mark.parametrize("config", ENCODERS, ids=["encoder", "encoder, grouped queries", "bert"])


@pytest.mark.parametrize("changes", [{}, {"num_key_value_heads": 2, "head_size": 6}, {"qk_norm": False}])
def test_the_encoder_equals_the_formula_of_the_decoder_without_its_mask(changes: dict) -> None:
    config = EncoderConfig(num_layers=3, hidden_size=16, num_heads=4, **changes)
    model = rough_model(config)
    for row in random_tokens(2, 10):
        expected = logits_by_formula(dict(model.state_dict()), row, config)
        assert_close(model.head.logits(model(row[None])[0][0]), expected)


def test_the_encoder_has_the_weights_of_the_decoder() -> None:
    encoder, decoder = new_model(EncoderConfig(**SMALL)), new_model(TransformerConfig(**SMALL))
    assert encoder.num_parameters() == decoder.num_parameters()
    assert encoder.flops_per_token(CONTEXT_LENGTH) == decoder.flops_per_token(CONTEXT_LENGTH)
    for (name, ours), (same, theirs) in zip(encoder.named_parameters(), decoder.named_parameters(), strict=True):
        assert name == same
        assert torch.equal(ours, theirs)


@EVERY_ENCODER
def test_every_token_sees_every_other_one(config: EncoderConfig | BERTConfig) -> None:
    model, tokens = rough_model(config), random_tokens(2, 9)
    before, _ = model(tokens)
    for t in range(9):
        changed = tokens.clone()
        changed[:, t] = (changed[:, t] + 1) % 29
        after, _ = model(changed)
        assert (after - before).abs().amax(dim=2).min() > 1e-4


@EVERY_ENCODER
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_on_either_side_changes_nothing(config: EncoderConfig | BERTConfig, side: str) -> None:
    model, tokens = rough_model(config), random_tokens(3, 12)
    lengths = [12, 7, 1]
    inside = torch.stack([torch.arange(12) < length for length in lengths])
    inside = inside if side == "right" else inside.flip(1)
    padded, _ = model(tokens.masked_fill(~inside, 0), None, inside.long())
    for row, is_text in enumerate(inside):
        alone, _ = model(tokens[row : row + 1, is_text])
        assert_close(padded[row : row + 1, is_text], alone)


@EVERY_ENCODER
def test_an_encoder_has_no_state(config: EncoderConfig | BERTConfig) -> None:
    model = new_model(config)
    assert model(random_tokens(1, 3))[1] is None
    with pytest.raises(NotImplementedError):
        model.new_state(1, 3)


@EVERY_ENCODER
def test_the_window_can_be_larger_than_the_context_of_training(config: EncoderConfig | BERTConfig) -> None:
    model = new_model(config, max_positions=2 * CONTEXT_LENGTH)
    assert model.max_length == 2 * CONTEXT_LENGTH
    assert model(random_tokens(1, 2 * CONTEXT_LENGTH))[0].shape[1] == 2 * CONTEXT_LENGTH
