"""BERT with its masked-language-model head: our `bert`.

What was trained beside it for next-sentence prediction (the pooler) is left out: no masked language model needs it.
"""

from lmexp.config.model import GELU, BERTConfig
from lmexp.interchange.family import Family, Published, gelu, is_named, number, require

LAYER = {
    "attention.query": "attention.self.query",
    "attention.key": "attention.self.key",
    "attention.value": "attention.self.value",
    "attention.output": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "mlp.up": "intermediate.dense",
    "mlp.down": "output.dense",
    "mlp_norm": "output.LayerNorm",
}
AROUND = {
    "embedding_norm": "bert.embeddings.LayerNorm",
    "head.dense": "cls.predictions.transform.dense",
    "head.norm": "cls.predictions.transform.LayerNorm",
}
MODULES = AROUND | {f"blocks.{{}}.{ours}": f"bert.encoder.layer.{{}}.{theirs}" for ours, theirs in LAYER.items()}
NAMES = {
    "embedding.weight": "bert.embeddings.word_embeddings.weight",
    "position_embedding.weight": "bert.embeddings.position_embeddings.weight",
    "type_embedding.weight": "bert.embeddings.token_type_embeddings.weight",
    "head.weight": "cls.predictions.decoder.weight",
    "head.bias": "cls.predictions.bias",
} | {f"{ours}.{part}": f"{theirs}.{part}" for ours, theirs in MODULES.items() for part in ("weight", "bias")}


def _read(config: Published) -> BERTConfig:
    require(config, is_decoder=(False,), add_cross_attention=(False,), position_embedding_type=("absolute",))
    return BERTConfig(
        num_layers=number(config, "num_hidden_layers"),
        hidden_size=number(config, "hidden_size"),
        num_heads=number(config, "num_attention_heads"),
        mlp_size=number(config, "intermediate_size"),
        num_token_types=number(config, "type_vocab_size", 2),
        norm_epsilon=float(number(config, "layer_norm_eps", 1e-12)),
        gelu=gelu({"hidden_act": "gelu"} | config, "hidden_act"),
        max_positions=number(config, "max_position_embeddings"),
        tie_embeddings=bool(config.get("tie_word_embeddings", True)),
        vocab_size=number(config, "vocab_size"),
    )


def _write(config: BERTConfig, vocab_size: int, max_length: int) -> Published:
    return {
        "vocab_size": vocab_size,
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "intermediate_size": config.mlp_size or 4 * config.hidden_size,
        "hidden_act": "gelu" if config.gelu is GELU.exact else "gelu_new",
        "hidden_dropout_prob": config.dropout,
        "attention_probs_dropout_prob": config.dropout,
        "max_position_embeddings": max_length,
        "type_vocab_size": config.num_token_types,
        "layer_norm_eps": config.norm_epsilon,
        "position_embedding_type": "absolute",
        "tie_word_embeddings": config.tie_embeddings,
    }


BERT = Family(
    architecture="BertForMaskedLM",
    model_type="bert",
    names=NAMES,
    fits=is_named("bert"),
    read=_read,
    write=_write,
    base="bert.",
    copies={
        "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    },
    unused=(
        "embeddings.position_ids",
        "pooler.dense.weight",
        "pooler.dense.bias",
        "cls.seq_relationship.weight",
        "cls.seq_relationship.bias",
    ),
)
