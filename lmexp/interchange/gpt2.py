"""GPT-2: our `gpt2`. Its linear layers are stored transposed (Conv1D) and always have biases."""

from dataclasses import replace

from lmexp.config.model import GELU, GPT2Config
from lmexp.interchange.family import Family, Published, gelu, is_named, number, require

NAMES = {
    "embedding.weight": "transformer.wte.weight",
    "position_embedding.weight": "transformer.wpe.weight",
    "blocks.{}.attention_norm.weight": "transformer.h.{}.ln_1.weight",
    "blocks.{}.attention_norm.bias": "transformer.h.{}.ln_1.bias",
    "blocks.{}.attention.qkv.weight": "transformer.h.{}.attn.c_attn.weight",
    "blocks.{}.attention.qkv.bias": "transformer.h.{}.attn.c_attn.bias",
    "blocks.{}.attention.output.weight": "transformer.h.{}.attn.c_proj.weight",
    "blocks.{}.attention.output.bias": "transformer.h.{}.attn.c_proj.bias",
    "blocks.{}.mlp_norm.weight": "transformer.h.{}.ln_2.weight",
    "blocks.{}.mlp_norm.bias": "transformer.h.{}.ln_2.bias",
    "blocks.{}.mlp.up.weight": "transformer.h.{}.mlp.c_fc.weight",
    "blocks.{}.mlp.up.bias": "transformer.h.{}.mlp.c_fc.bias",
    "blocks.{}.mlp.down.weight": "transformer.h.{}.mlp.c_proj.weight",
    "blocks.{}.mlp.down.bias": "transformer.h.{}.mlp.c_proj.bias",
    "norm.weight": "transformer.ln_f.weight",
    "norm.bias": "transformer.ln_f.bias",
    "head.weight": "lm_head.weight",
}
LAYER_NORM_EPSILON = 1e-5


def _read(config: Published) -> GPT2Config:
    hidden_size = number(config, "n_embd")
    require(
        config,
        scale_attn_weights=(True,),
        scale_attn_by_inverse_layer_idx=(False,),
        add_cross_attention=(False,),
        layer_norm_epsilon=(LAYER_NORM_EPSILON,),
        n_inner=(None, 4 * hidden_size),
    )
    return GPT2Config(
        num_layers=number(config, "n_layer"),
        hidden_size=hidden_size,
        num_heads=number(config, "n_head"),
        bias=True,
        gelu=gelu({"activation_function": "gelu_new"} | config, "activation_function"),
        max_positions=number(config, "n_positions", config.get("n_ctx")),
        tie_embeddings=bool(config.get("tie_word_embeddings", True)),
        vocab_size=number(config, "vocab_size"),
    )


def _write(config: GPT2Config, vocab_size: int, max_length: int) -> Published:
    return {
        "vocab_size": vocab_size,
        "n_positions": max_length,
        "n_embd": config.hidden_size,
        "n_layer": config.num_layers,
        "n_head": config.num_heads,
        "n_inner": None,
        "activation_function": "gelu" if config.gelu is GELU.exact else "gelu_new",
        "resid_pdrop": config.dropout,
        "embd_pdrop": config.dropout,
        "attn_pdrop": config.dropout,
        "layer_norm_epsilon": LAYER_NORM_EPSILON,
        "tie_word_embeddings": config.tie_embeddings,
    }


GPT2 = Family(
    architecture="GPT2LMHeadModel",
    model_type="gpt2",
    names=NAMES,
    fits=is_named("gpt2"),
    read=_read,
    write=_write,
    complete=lambda config: replace(config, bias=True),
    base="transformer.",
    transposed=("qkv.weight", "output.weight", "up.weight", "down.weight"),
    copies={"lm_head.weight": "transformer.wte.weight"},
    unused=(".attn.bias", ".attn.masked_bias"),
)
