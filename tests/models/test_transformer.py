import math

import pytest
import torch
from torch import Tensor

from lmexp.config.model import Kind, TransformerConfig
from tests.models.setups import CONTEXT_LENGTH, VOCAB_SIZE, assert_close, new_model, random_tokens, rough_model

Weights = dict[str, Tensor]


def rms_norm(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    return x / torch.sqrt(x.square().mean(-1, keepdim=True) + epsilon) * weight


def turn(x_TD: Tensor, theta: float) -> Tensor:
    """Turn the pair (i, i + D/2) of position t by t * theta^(-2i/D)."""
    half = x_TD.shape[1] // 2
    angles = torch.arange(len(x_TD)).double()[:, None] * theta ** (-torch.arange(half).double() / half)
    cos, sin = angles.cos().float(), angles.sin().float()
    a, b = x_TD[:, :half], x_TD[:, half:]
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=1)


def attention_by_formula(w: Weights, name: str, x: Tensor, config: TransformerConfig) -> Tensor:
    size = config.head_size or config.hidden_size // config.num_heads
    shared_by = config.num_heads // (config.num_key_value_heads or config.num_heads)
    hidden = torch.ones(len(x), len(x)).triu(1).bool() & (config.kind is Kind.decoder)
    heads = []
    for h in range(config.num_heads):
        g = h // shared_by
        q = x @ w[f"{name}.query.weight"][h * size : (h + 1) * size].T
        k = x @ w[f"{name}.key.weight"][g * size : (g + 1) * size].T
        v = x @ w[f"{name}.value.weight"][g * size : (g + 1) * size].T
        if config.qk_norm:
            q = rms_norm(q, w[f"{name}.query_norm.weight"], config.norm_epsilon)
            k = rms_norm(k, w[f"{name}.key_norm.weight"], config.norm_epsilon)
        scores = turn(q, config.rope_theta) @ turn(k, config.rope_theta).T / math.sqrt(size)
        heads.append(scores.masked_fill(hidden, -torch.inf).softmax(-1) @ v)
    return torch.cat(heads, dim=1) @ w[f"{name}.output.weight"].T


def logits_by_formula(w: Weights, tokens_T: Tensor, config: TransformerConfig) -> Tensor:
    """Return the logits of one row in the shape of Qwen3 (Yang et al. 2025), head by head."""
    x = w["embedding.weight"][tokens_T]
    for block in (f"blocks.{number}" for number in range(config.num_layers)):
        normed = rms_norm(x, w[f"{block}.attention_norm.weight"], config.norm_epsilon)
        x = x + attention_by_formula(w, f"{block}.attention", normed, config)
        normed = rms_norm(x, w[f"{block}.mlp_norm.weight"], config.norm_epsilon)
        gate, up = normed @ w[f"{block}.mlp.gate.weight"].T, normed @ w[f"{block}.mlp.up.weight"].T
        x = x + (gate * torch.sigmoid(gate) * up) @ w[f"{block}.mlp.down.weight"].T
    return rms_norm(x, w["norm.weight"], config.norm_epsilon) @ w["head.weight"].T


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"num_key_value_heads": 2, "head_size": 6},
        {"num_key_value_heads": 1, "rope_theta": 50.0, "norm_epsilon": 0.1},
        {"qk_norm": False, "tie_embeddings": False, "mlp_size": 10},
    ],
)
def test_the_model_equals_the_formula_of_qwen3(changes: dict[str, object]) -> None:
    config = TransformerConfig(num_layers=3, hidden_size=16, **changes)
    model = rough_model(config)
    for row in random_tokens(2, 10):
        expected = logits_by_formula(dict(model.state_dict()), row, config)
        assert_close(model.head.logits(model(row[None])[0][0]), expected)


def test_positions_matter_by_distance_only() -> None:
    config = TransformerConfig(num_layers=2, hidden_size=16)
    model, tokens = rough_model(config), random_tokens(1, 6)
    later = torch.cat((random_tokens(1, 5, seed=9), tokens), dim=1)
    segments = torch.tensor([[0] * 5 + [1] * 6])
    assert_close(model(later, None, segments)[0][:, 5:], model(tokens)[0])


def test_rows_longer_than_the_context_are_read_without_a_state() -> None:
    model = rough_model(TransformerConfig(num_layers=1, hidden_size=8))
    hidden, _ = model(random_tokens(1, 300))
    assert hidden.isfinite().all()


def test_weights_begin_small_and_smaller_into_the_residual_stream() -> None:
    model = new_model(TransformerConfig(num_layers=8, hidden_size=96, tie_embeddings=False))
    for name, weight in model.named_parameters():
        if "norm" in name:
            assert (weight == 1).all(), name
        else:
            residual = name.endswith(("attention.output.weight", "mlp.down.weight"))
            expected = 0.02 / math.sqrt(16) if residual else 0.02
            assert weight.std().item() == pytest.approx(expected, rel=0.08), name


@pytest.mark.parametrize(("hidden_size", "mlp_size"), [(16, 64), (64, 192), (256, 704), (768, 2048)])
def test_the_feed_forward_part_is_8_thirds_as_wide_in_steps_of_32(hidden_size: int, mlp_size: int) -> None:
    with torch.device("meta"):
        model = new_model(TransformerConfig(num_layers=1, hidden_size=hidden_size))
    assert model.blocks[0].mlp.up.weight.shape == (mlp_size, hidden_size)


def test_parameters_and_operations_by_hand() -> None:
    v, t, c, d, m, layers = VOCAB_SIZE, CONTEXT_LENGTH, 16, 6, 20, 3
    config = TransformerConfig(num_layers=layers, hidden_size=c, num_key_value_heads=2, head_size=d, mlp_size=m)
    matrices = layers * (c * 4 * d + 2 * c * 2 * d + 4 * d * c + 3 * c * m)
    norms = layers * (2 * c + 2 * d) + c
    tied = new_model(config)
    assert tied.num_parameters() == v * c + matrices + norms
    assert tied.flops_per_token(t) == 6 * (matrices + v * c) + 12 * layers * 4 * d * t
    untied = new_model(config, tie_embeddings=False, qk_norm=False)
    assert untied.num_parameters() == 2 * v * c + matrices + norms - layers * 2 * d
    assert untied.flops_per_token(t) == tied.flops_per_token(t)
