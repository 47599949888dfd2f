import math

import pytest
import torch
from torch import Tensor

from lmexp.config.model import GPT2Config
from tests.models.setups import CONTEXT_LENGTH, VOCAB_SIZE, assert_close, new_model, random_tokens, rough_model

Weights = dict[str, Tensor]


def layer_norm(x: Tensor, w: Weights, name: str) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    normed = centred / torch.sqrt(centred.square().mean(-1, keepdim=True) + 1e-5)
    return normed * w[f"{name}.weight"] + w.get(f"{name}.bias", torch.zeros(1))


def linear(x: Tensor, w: Weights, name: str) -> Tensor:
    return x @ w[f"{name}.weight"].T + w.get(f"{name}.bias", torch.zeros(1))


def logits_by_formula(w: Weights, tokens_T: Tensor, *, num_layers: int, num_heads: int) -> Tensor:
    """Return GPT-2's logits of one row, head by head (Radford et al. 2019, as nanoGPT's model.py has it)."""
    length = len(tokens_T)
    later = torch.ones(length, length).triu(1).bool()
    x = w["embedding.weight"][tokens_T] + w["position_embedding.weight"][:length]
    for block in (f"blocks.{number}" for number in range(num_layers)):
        q, k, v = linear(layer_norm(x, w, f"{block}.attention_norm"), w, f"{block}.attention.qkv").chunk(3, dim=1)
        size, heads = q.shape[1] // num_heads, []
        for part in (slice(h * size, (h + 1) * size) for h in range(num_heads)):
            scores = (q[:, part] @ k[:, part].T / math.sqrt(size)).masked_fill(later, -torch.inf)
            heads.append(scores.softmax(-1) @ v[:, part])
        x = x + linear(torch.cat(heads, dim=1), w, f"{block}.attention.output")
        up = linear(layer_norm(x, w, f"{block}.mlp_norm"), w, f"{block}.mlp.up")
        gelu = 0.5 * up * (1 + torch.erf(up / math.sqrt(2)))
        x = x + linear(gelu, w, f"{block}.mlp.down")
    return layer_norm(x, w, "norm") @ w["head.weight"].T


@pytest.mark.parametrize("bias", [True, False])
def test_the_model_equals_the_formula_of_gpt2(bias: bool) -> None:
    model = rough_model(GPT2Config(num_layers=3, hidden_size=12, num_heads=3, bias=bias))
    for row in random_tokens(2, 10):
        expected = logits_by_formula(dict(model.state_dict()), row, num_layers=3, num_heads=3)
        assert_close(model.head.logits(model(row[None])[0][0]), expected)


def test_weights_begin_as_nanogpt_has_them() -> None:
    model = new_model(GPT2Config(num_layers=8, hidden_size=96, bias=True))
    for name, weight in model.named_parameters():
        if name.endswith("bias"):
            assert (weight == 0).all(), name
        elif "norm" in name:
            assert (weight == 1).all(), name
        else:
            residual = name.endswith(("attention.output.weight", "mlp.down.weight"))
            expected = 0.02 / math.sqrt(16) if residual else 0.02
            assert weight.std().item() == pytest.approx(expected, rel=0.08), name
            assert abs(weight.mean().item()) < 0.1 * expected, name


def test_a_row_longer_than_the_positions_is_refused() -> None:
    model = new_model(GPT2Config(num_layers=1, hidden_size=8))
    with pytest.raises(IndexError):
        model(random_tokens(1, CONTEXT_LENGTH + 1))


def test_parameters_and_operations_by_hand() -> None:
    v, t, c, layers = VOCAB_SIZE, CONTEXT_LENGTH, 8, 3
    matrices = layers * (c * 3 * c + c * c + c * 4 * c + 4 * c * c)
    plain = new_model(GPT2Config(num_layers=layers, hidden_size=c))
    assert plain.num_parameters() == v * c + t * c + matrices + (2 * layers + 1) * c
    assert plain.flops_per_token(t) == 6 * (matrices + v * c) + 12 * layers * c * t
    biased = new_model(GPT2Config(num_layers=layers, hidden_size=c, bias=True, tie_embeddings=False))
    biases = layers * (3 * c + c + 4 * c + c + 2 * c) + c
    assert biased.num_parameters() == plain.num_parameters() + biases + v * c
    assert biased.flops_per_token(t) == plain.flops_per_token(t)
