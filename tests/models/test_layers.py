import math

import pytest
import torch
from torch import Tensor

from lmexp.models.documents import InBlocks, OneByOne, document_mask, positions_in_segments
from lmexp.models.layers import Rotary, SwiGLU, attend, rotate
from lmexp.models.state import KeyValueCache
from tests.models.setups import assert_close


def attention_by_formula(q: Tensor, k: Tensor, v: Tensor, allowed: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(D)) v, query head by query head and token by token."""
    rows, heads, length, size = q.shape
    shared_by = heads // k.shape[1]
    out = torch.zeros(rows, length, heads, size)
    for b in range(rows):
        for h in range(heads):
            for t in range(length):
                seen = allowed[b, t].nonzero().squeeze(1)
                scores = k[b, h // shared_by, seen] @ q[b, h, t] / math.sqrt(size)
                weights = scores.exp() / scores.exp().sum()
                out[b, t, h] = weights @ v[b, h // shared_by, seen]
    return out.flatten(2)


def random_qkv(groups: int, length: int = 6) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    return torch.randn(2, 4, length, 8), torch.randn(2, groups, length, 8), torch.randn(2, groups, length, 8)


def earlier(length: int) -> Tensor:
    return torch.arange(length)[:, None] >= torch.arange(length)


@pytest.mark.parametrize("groups", [4, 2, 1])
def test_attention_equals_its_formula(groups: int) -> None:
    q, k, v = random_qkv(groups)
    assert_close(attend(q, k, v), attention_by_formula(q, k, v, earlier(6).expand(2, 6, 6)))


@pytest.mark.parametrize("groups", [4, 2])
def test_attention_within_documents_equals_its_formula(groups: int) -> None:
    q, k, v = random_qkv(groups)
    segments = torch.tensor([[0, 0, 0, 1, 1, 2], [5, 5, 5, 5, 5, 5]])
    allowed = (segments[:, :, None] == segments[:, None, :]) & earlier(6)
    expected = attention_by_formula(q, k, v, allowed)
    assert_close(attend(q, k, v, mask=document_mask(segments, causal=True)), expected)
    assert_close(attend(q, k, v, mask=OneByOne([3, 2, 1, 6], causal=True)), expected)
    assert_close(attend(q, k, v, mask=InBlocks(segments, causal=True)), expected)  # by a mask: these heads are small


def test_attention_both_ways_within_documents_equals_its_formula() -> None:
    q, k, v = random_qkv(4)
    segments = torch.tensor([[0, 0, 0, 1, 1, 2], [5, 5, 5, 5, 5, 5]])
    expected = attention_by_formula(q, k, v, segments[:, :, None] == segments[:, None, :])
    assert_close(attend(q, k, v, mask=document_mask(segments, causal=False)), expected)
    assert_close(attend(q, k, v, mask=OneByOne([3, 2, 1, 6], causal=False)), expected)


@pytest.mark.parametrize("groups", [4, 2])
def test_attention_over_a_cache_equals_its_formula(groups: int) -> None:
    q, k, v = random_qkv(groups)
    cache = KeyValueCache.empty(q, layers=1, rows=2, heads=groups, length=9, size=8)
    parts = [
        attend(q[:, :, chunk], k[:, :, chunk], v[:, :, chunk], cache=cache)
        for chunk in (slice(0, 1), slice(1, 4), slice(4, 5), slice(5, 6))
    ]
    assert_close(torch.cat(parts, dim=1), attention_by_formula(q, k, v, earlier(6).expand(2, 6, 6)))


def test_attention_drops_weights_only_when_asked() -> None:
    q, k, v = random_qkv(4)
    assert torch.equal(attend(q, k, v), attend(q, k, v))
    assert not torch.equal(attend(q, k, v, dropout=0.5), attend(q, k, v, dropout=0.5))


def test_a_cache_moves_on_when_its_last_layer_has_written() -> None:
    cache = KeyValueCache.empty(torch.zeros(1), layers=2, rows=1, heads=1, length=4, size=2)
    new = torch.ones(1, 1, 3, 2)
    cache.extend(0, new, new)
    assert cache.length == 0
    keys, values = cache.extend(1, new, 2 * new)
    assert cache.length == 3
    assert torch.equal(keys, new)
    assert torch.equal(values, 2 * new)


def test_positions_begin_anew_in_each_document() -> None:
    segments = torch.tensor([[0, 0, 0, 1, 1, 2], [4, 5, 5, 4, 4, 4]])
    assert positions_in_segments(segments).tolist() == [[0, 1, 2, 0, 1, 0], [0, 0, 1, 0, 1, 2]]


def test_rotation_is_a_product_of_complex_numbers() -> None:
    torch.manual_seed(0)
    x, theta = torch.randn(2, 3, 7, 8), 100.0
    cos, sin = Rotary(8, theta).tables(7, torch.empty(0))
    numbers = torch.complex(x[..., :4].double(), x[..., 4:].double())
    angles = torch.arange(7)[:, None] * theta ** (-2 * torch.arange(4).double() / 8)
    turned = numbers * torch.exp(1j * angles)
    assert_close(rotate(x, cos, sin), torch.cat((turned.real, turned.imag), dim=-1).float())


def test_scores_of_rotated_vectors_depend_on_their_distance_only() -> None:
    torch.manual_seed(0)
    q, k = torch.randn(8), torch.randn(8)
    cos, sin = Rotary(8, 10_000.0).tables(64, torch.empty(0))
    turned_q, turned_k = (rotate(x.expand(1, 1, 64, 8), cos, sin)[0, 0] for x in (q, k))
    scores = turned_q @ turned_k.T
    for distance in (0, 1, 17):
        diagonal = scores.diagonal(-distance)
        assert_close(diagonal, diagonal[:1].expand_as(diagonal))
    assert (scores[:, 0] - scores[0, 0]).abs()[1:].max() > 0.1


def test_rotation_keeps_lengths_and_leaves_position_0() -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 1, 50, 6)
    turned = rotate(x, *Rotary(6, 10_000.0).tables(50, torch.empty(0)))
    assert_close(turned.norm(dim=-1), x.norm(dim=-1))
    assert torch.equal(turned[:, :, 0], x[:, :, 0])


def test_longer_tables_of_angles_begin_with_the_shorter_ones() -> None:
    rotary, cpu = Rotary(8, 10_000.0), torch.empty(0)
    short = rotary.tables(20, cpu)
    long = rotary.tables(500, cpu)
    assert long[0].shape == (500, 8)
    assert torch.equal(long[0][:20], short[0])
    assert torch.equal(rotary.tables(20, cpu)[1], short[1])


def test_angles_far_out_are_exact_to_float32() -> None:
    cos, _ = Rotary(4, 10_000.0).tables(100_001, torch.empty(0))
    assert cos[100_000].tolist() == pytest.approx([math.cos(1e5), math.cos(1e3)] * 2, abs=1e-6)


def test_swiglu_equals_its_formula() -> None:
    torch.manual_seed(0)
    layer, x = SwiGLU(3, 5), torch.randn(2, 4, 3)
    gate, up = x @ layer.gate.weight.T, x @ layer.up.weight.T
    assert_close(layer(x), (gate / (1 + torch.exp(-gate)) * up) @ layer.down.weight.T)
