"""The model equals its equations, written down token by token in float64 and without torch's layers."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from lmexp.config.model import MLP, TransformerFastConfig
from tests.models.setups import new_model, random_tokens, rough_model

Array = NDArray[np.float64]
CONFIGS = {
    "default": TransformerFastConfig(num_layers=2, hidden_size=16, num_heads=2),
    "plain": TransformerFastConfig(
        num_layers=1, hidden_size=16, num_heads=1, mlp=MLP.swiglu, shift_taps=0, qk_norm=False, tie_embeddings=True
    ),
}


def by_hand(config: TransformerFastConfig, weights: dict[str, Array], tokens: list[int]) -> Array:
    """Return the logits after each token."""
    x = norm(shift(weights, "shift", [weights["embedding.weight"][i] for i in tokens]))
    for n in range(config.num_layers):
        block = f"blocks.{n}."
        y = shift(weights, f"{block}attention_shift", norm(x))
        x = [a + b for a, b in zip(x, attention(config, weights, block, y), strict=True)]
        y = shift(weights, f"{block}mlp_shift", norm(x))
        x = [
            a + weights[f"{block}mlp.down.weight"] @ inside(config, weights, block, b)
            for a, b in zip(x, y, strict=True)
        ]
    return np.array([weights["head.weight"] @ a for a in norm(x)])


def norm(rows: list[Array]) -> list[Array]:
    return [(a - a.mean()) / np.sqrt(a.var() + 1e-5) for a in rows]


def shift(weights: dict[str, Array], name: str, rows: list[Array]) -> list[Array]:
    taps = [weights[key] for key in sorted(weights) if key.startswith(f"{name}.taps.")]
    return [row + sum(tap * rows[t - k] for k, tap in enumerate(taps, start=1) if t >= k) for t, row in enumerate(rows)]


def attention(config: TransformerFastConfig, weights: dict[str, Array], block: str, rows: list[Array]) -> list[Array]:
    size = config.hidden_size // config.num_heads
    q, k, v = (
        [np.split(part, config.num_heads) for part in parts]
        for parts in zip(*(np.split(weights[f"{block}attention.qkv.weight"] @ y, 3) for y in rows), strict=True)
    )
    if config.qk_norm:
        q, k = [norm(heads) for heads in q], [norm(heads) for heads in k]
    q = [[turn(config, head, t) for head in heads] for t, heads in enumerate(q)]
    k = [[turn(config, head, t) for head in heads] for t, heads in enumerate(k)]
    out = []
    for t in range(len(rows)):
        heads = []
        for h in range(config.num_heads):
            gain = weights[f"{block}attention.gain"][h] if config.qk_norm else 1.0
            scores = np.array([gain * q[t][h] @ k[s][h] / np.sqrt(size) for s in range(t + 1)])
            shares = np.exp(scores - scores.max())
            heads.append(sum(share * v[s][h] for s, share in enumerate(shares / shares.sum())))
        out.append(weights[f"{block}attention.output.weight"] @ np.concatenate(heads))
    return out


def turn(config: TransformerFastConfig, a: Array, t: int) -> Array:
    half = len(a) // 2
    angles = t * config.rope_theta ** (-np.arange(half) / half)
    first, second = a[:half], a[half:]
    return np.concatenate(
        (first * np.cos(angles) - second * np.sin(angles), second * np.cos(angles) + first * np.sin(angles))
    )


def inside(config: TransformerFastConfig, weights: dict[str, Array], block: str, y: Array) -> Array:
    up = weights[f"{block}mlp.up.weight"] @ y
    if config.mlp is MLP.relu2:
        return np.maximum(up, 0) ** 2
    gate = weights[f"{block}mlp.gate.weight"] @ y
    return gate / (1 + np.exp(-gate)) * up


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_the_model_equals_its_equations(config: TransformerFastConfig) -> None:
    model, tokens = rough_model(config), random_tokens(1, 11)
    weights = {name: tensor.double().numpy() for name, tensor in model.state_dict().items()}
    with torch.no_grad():
        logits = model.head.logits(model(tokens)[0])[0].double().numpy()
    expected = by_hand(config, weights, tokens[0].tolist())
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


def test_what_writes_begins_at_zero_and_the_shift_at_nothing() -> None:
    model = new_model(CONFIGS["default"])
    zero = {name for name, weight in model.named_parameters() if not weight.any()}
    writes = {f"blocks.{n}.{part}" for n in range(2) for part in ("attention.output.weight", "mlp.down.weight")}
    assert zero == {*writes, "head.weight", *(name for name, _ in model.named_parameters() if ".taps." in name)}


def test_without_zero_init_every_matrix_is_drawn() -> None:
    model = new_model(CONFIGS["default"], zero_init=False)
    assert all(weight.any() for weight in model.parameters() if weight.ndim == 2)
