"""Llama and Qwen3: our `transformer` without and with QK-norm.

Both store projections and rotary halves as we do, so that only names differ. Scaled or partial rotary positions, biases
and sliding windows have no counterpart.
"""

from functools import partial

from lmexp.config.model import ModelConfig, TransformerConfig
from lmexp.errors import DataError
from lmexp.interchange.family import Family, Published, number, require, shown

NAMES = {
    "embedding.weight": "model.embed_tokens.weight",
    "blocks.{}.attention_norm.weight": "model.layers.{}.input_layernorm.weight",
    "blocks.{}.attention.query.weight": "model.layers.{}.self_attn.q_proj.weight",
    "blocks.{}.attention.key.weight": "model.layers.{}.self_attn.k_proj.weight",
    "blocks.{}.attention.value.weight": "model.layers.{}.self_attn.v_proj.weight",
    "blocks.{}.attention.output.weight": "model.layers.{}.self_attn.o_proj.weight",
    "blocks.{}.mlp_norm.weight": "model.layers.{}.post_attention_layernorm.weight",
    "blocks.{}.mlp.gate.weight": "model.layers.{}.mlp.gate_proj.weight",
    "blocks.{}.mlp.up.weight": "model.layers.{}.mlp.up_proj.weight",
    "blocks.{}.mlp.down.weight": "model.layers.{}.mlp.down_proj.weight",
    "norm.weight": "model.norm.weight",
    "head.weight": "lm_head.weight",
}
QK_NAMES = {
    "blocks.{}.attention.query_norm.weight": "model.layers.{}.self_attn.q_norm.weight",
    "blocks.{}.attention.key_norm.weight": "model.layers.{}.self_attn.k_norm.weight",
}


def _read(config: Published, *, qk_norm: bool) -> TransformerConfig:
    require(
        config,
        hidden_act=("silu", "swish"),
        attention_bias=(False, None),
        mlp_bias=(False, None),
        use_sliding_window=(False, None),
    )
    if any(kind != "full_attention" for kind in config.get("layer_types") or []):
        require(config, layer_types=())
    num_heads, hidden_size = number(config, "num_attention_heads"), number(config, "hidden_size")
    return TransformerConfig(
        num_layers=number(config, "num_hidden_layers"),
        hidden_size=hidden_size,
        num_heads=num_heads,
        num_key_value_heads=number(config, "num_key_value_heads", num_heads),
        head_size=number(config, "head_dim", 128 if qk_norm else hidden_size // max(1, num_heads)),
        mlp_size=number(config, "intermediate_size"),
        qk_norm=qk_norm,
        rope_theta=_rope_theta(config),
        norm_epsilon=float(number(config, "rms_norm_eps", 1e-6)),
        max_positions=number(config, "max_position_embeddings", 2048),
        tie_embeddings=bool(config.get("tie_word_embeddings", False)),
        vocab_size=number(config, "vocab_size"),
    )


def _rope_theta(config: Published) -> float:
    """Return the base of plain rotary positions, from where transformers 5 writes it or where 4 did."""
    require(config, partial_rotary_factor=(None, 1))
    for key in ("rope_scaling", "rope_parameters"):
        rope = config.get(key) or {}
        kind = rope.get("rope_type", rope.get("type", "default")) if isinstance(rope, dict) else None
        if kind != "default" or set(rope) - {"rope_type", "type", "rope_theta"}:
            raise DataError(f"{key}={shown(rope)}: lmexp's model has plain rotary positions only")
    rope = config.get("rope_parameters") or {}
    return float(number(rope if "rope_theta" in rope else config, "rope_theta", 10_000.0))


def _write(config: TransformerConfig, vocab_size: int, max_length: int) -> Published:
    return {
        "vocab_size": vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.mlp_width,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_key_value_heads or config.num_heads,
        "head_dim": config.head_size or config.hidden_size // config.num_heads,
        "hidden_act": "silu",
        "max_position_embeddings": max_length,
        "rms_norm_eps": config.norm_epsilon,
        "rope_theta": config.rope_theta,
        "rope_parameters": {"rope_theta": config.rope_theta, "rope_type": "default"},
        "attention_bias": False,
        "attention_dropout": 0.0,
        "tie_word_embeddings": config.tie_embeddings,
    }


def _is_transformer(config: ModelConfig, *, qk_norm: bool) -> bool:
    return config.name == "transformer" and isinstance(config, TransformerConfig) and config.qk_norm is qk_norm


LLAMA = Family(
    architecture="LlamaForCausalLM",
    model_type="llama",
    names=NAMES,
    fits=partial(_is_transformer, qk_norm=False),
    read=partial(_read, qk_norm=False),
    write=lambda *sizes: _write(*sizes) | {"mlp_bias": False},
    copies={"lm_head.weight": "model.embed_tokens.weight"},
    unused=("rotary_emb.inv_freq",),
)
QWEN3 = Family(
    architecture="Qwen3ForCausalLM",
    model_type="qwen3",
    names=NAMES | QK_NAMES,
    fits=partial(_is_transformer, qk_norm=True),
    read=partial(_read, qk_norm=True),
    write=lambda *sizes: _write(*sizes) | {"use_sliding_window": False},
    copies={"lm_head.weight": "model.embed_tokens.weight"},
    unused=("rotary_emb.inv_freq",),
)
