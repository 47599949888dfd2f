import math

import pytest
import torch
from torch import nn

from lmexp.config.model import EncoderDecoderConfig
from lmexp.models.encoder_decoder import EncoderDecoder, EncoderDecoderState
from lmexp.models.state import KeyValueCache
from tests.models.setups import CONTEXT_LENGTH, VOCAB_SIZE, assert_close, new_model, random_tokens, rough_model

C, HEADS = 12, 3
CONFIG = EncoderDecoderConfig(num_layers=3, num_encoder_layers=2, hidden_size=C, num_heads=HEADS, bias=True)
SIZES = {"d_model": C, "nhead": HEADS, "dim_feedforward": 4 * C, "dropout": 0.0}
SHAPE = {"activation": "gelu", "batch_first": True, "norm_first": True}
LENGTHS = torch.tensor([[8], [3], [5]])
IS_REAL = torch.arange(8) < LENGTHS
SOURCE, TARGET = random_tokens(3, 8, seed=5), random_tokens(3, 7, seed=6)


def rough() -> EncoderDecoder:
    return rough_model(CONFIG).model


def copy(theirs: nn.Module, **ours: nn.Module) -> None:
    """Copy weights and biases into the parts of one of torch's layers."""
    with torch.no_grad():
        for name, module in ours.items():
            part = theirs.get_submodule(name.replace("__", "."))
            part.weight.copy_(module.weight)
            part.bias.copy_(module.bias)


def copy_attention(theirs: nn.MultiheadAttention, weights: list[nn.Linear], output: nn.Linear) -> None:
    """Copy linear layers that together give queries, keys and values."""
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([layer.weight for layer in weights]))
        theirs.in_proj_bias.copy_(torch.cat([layer.bias for layer in weights]))
    copy(theirs, out_proj=output)


def torch_encoder(model: EncoderDecoder) -> nn.ModuleList:
    layers = nn.ModuleList(nn.TransformerEncoderLayer(**SIZES, **SHAPE) for _ in model.encoder.blocks)
    for theirs, ours in zip(layers, model.encoder.blocks, strict=True):
        copy_attention(theirs.self_attn, [ours.attention.qkv], ours.attention.output)
        copy(theirs, norm1=ours.attention_norm, norm2=ours.mlp_norm, linear1=ours.mlp.up, linear2=ours.mlp.down)
    return layers


def torch_decoder(model: EncoderDecoder) -> nn.ModuleList:
    layers = nn.ModuleList(nn.TransformerDecoderLayer(**SIZES, **SHAPE) for _ in model.blocks)
    for theirs, ours, key_value in zip(layers, model.blocks, model.keys_values, strict=True):
        copy_attention(theirs.self_attn, [ours.attention.qkv], ours.attention.output)
        cross = ours.cross_attention
        copy_attention(theirs.multihead_attn, [cross.query, key_value], cross.output)
        copy(theirs, norm1=ours.attention_norm, norm2=ours.cross_attention_norm, norm3=ours.mlp_norm)
        copy(theirs, linear1=ours.mlp.up, linear2=ours.mlp.down)
    return layers


def test_the_encoder_equals_layers_of_torch() -> None:
    model = rough()
    x = model.embedding.weight[SOURCE] + model.encoder.position_embedding.weight[:8]
    for layer in torch_encoder(model):
        x = layer(x, src_key_padding_mask=~IS_REAL)
    expected = nn.functional.layer_norm(x, (C,), model.encoder.norm.weight, model.encoder.norm.bias)
    actual = model.encoder(model.embedding(SOURCE), IS_REAL)
    assert_close(actual[IS_REAL], expected[IS_REAL])


def test_the_decoder_equals_layers_of_torch() -> None:
    model = rough()
    memory = model.encoder(model.embedding(SOURCE), IS_REAL)
    later = nn.Transformer.generate_square_subsequent_mask(7)
    x = model.embedding.weight[TARGET] + model.position_embedding.weight[:7]
    for layer in torch_decoder(model):
        padding = torch.zeros(3, 8).masked_fill(~IS_REAL, -torch.inf)
        x = layer(x, memory, tgt_mask=later, memory_key_padding_mask=padding)
    expected = nn.functional.layer_norm(x, (C,), model.norm.weight, model.norm.bias)
    assert_close(model(TARGET, model.encode(SOURCE, IS_REAL))[0], expected)


def test_attention_to_the_source_equals_that_of_torch() -> None:
    model = rough()
    cross, key_value, theirs = model.blocks[0].cross_attention, model.keys_values[0], nn.MultiheadAttention(C, HEADS)
    copy_attention(theirs, [cross.query, key_value], cross.output)
    torch.manual_seed(1)
    x, source = torch.randn(3, 7, C), torch.randn(3, 8, C)
    keys, values = (part.unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in key_value(source).chunk(2, dim=-1))
    state = EncoderDecoderState(KeyValueCache(keys[None], values[None], 8), IS_REAL)
    expected, _ = theirs(x.transpose(0, 1), *[source.transpose(0, 1)] * 2, key_padding_mask=~IS_REAL)
    assert_close(cross(x, state), expected.transpose(0, 1))


def test_a_state_without_room_is_not_read_on_from() -> None:
    model = rough()
    _, state = model(TARGET, model.encode(SOURCE))
    assert state.length == 7
    with pytest.raises(ValueError, match=r"keeps no target tokens: give encode\(\) a max_length"):
        model(TARGET, state)


def test_a_source_longer_than_the_positions_is_refused() -> None:
    with pytest.raises(ValueError, match="a source of 17 tokens is longer than the 16 positions of the model"):
        rough().encode(random_tokens(1, CONTEXT_LENGTH + 1))


def test_positions_can_be_more_than_the_context() -> None:
    model = rough_model(CONFIG, max_positions=40).model
    assert model.max_length == 40
    hidden, _ = model(random_tokens(1, 40), model.encode(random_tokens(1, 40)))
    assert hidden.shape == (1, 40, C)


def test_weights_begin_smaller_where_more_parts_add_up() -> None:
    config = EncoderDecoderConfig(num_layers=6, num_encoder_layers=2, hidden_size=96, bias=True)
    for name, weight in new_model(config).model.named_parameters():
        if name.endswith("bias"):
            assert (weight == 0).all(), name
        elif "norm" in name:
            assert (weight == 1).all(), name
        else:
            is_residual = name.endswith(("attention.output.weight", "mlp.down.weight"))
            parts = (2 * 2 if name.startswith("encoder") else 3 * 6) if is_residual else 1
            assert weight.std().item() == pytest.approx(0.02 / math.sqrt(parts), rel=0.08), name


def test_parameters_and_operations_by_hand() -> None:
    v, t, c, encoder, decoder = VOCAB_SIZE, CONTEXT_LENGTH, 8, 2, 3
    attention, mlp = 3 * c * c + c * c, 2 * 4 * c * c
    matrices = encoder * (attention + mlp) + decoder * (2 * attention + mlp)
    norms = (2 * encoder + 1 + 3 * decoder + 1) * c
    plain = new_model(EncoderDecoderConfig(num_layers=decoder, num_encoder_layers=encoder, hidden_size=c)).model
    assert plain.num_parameters() == v * c + 2 * t * c + matrices + norms
    assert plain.flops_per_token(t) == 6 * (matrices + v * c) + 12 * (encoder + 2 * decoder) * c * t
