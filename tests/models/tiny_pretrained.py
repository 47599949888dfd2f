"""Tiny models of transformers with large weights, saved as their authors publish them: a folder with safetensors."""

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lmexp.config.pretrained import Head, HFConfig
from lmexp.models.pretrained import Pretrained
from lmexp.models.pretrained_files import AUTO_CLASSES

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import transformers

VOCAB_SIZE, LENGTH = 40, 64
SIZES: dict[str, Any] = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": LENGTH,
    "pad_token_id": 1,
    "bos_token_id": 2,
    "eos_token_id": 3,
}
GROUPED: dict[str, Any] = {**SIZES, "num_key_value_heads": 1, "head_dim": 8}
BART: dict[str, Any] = {"vocab_size": VOCAB_SIZE, "d_model": 16, "max_position_embeddings": LENGTH} | {
    f"{part}_{what}": size
    for part in ("encoder", "decoder")
    for what, size in (("layers", 2), ("attention_heads", 2), ("ffn_dim", 32))
}

CAUSAL: dict[str, Any] = {
    "llama": transformers.LlamaConfig(**GROUPED),
    "qwen3, tied": transformers.Qwen3Config(**GROUPED, tie_word_embeddings=True),
    "gpt2": transformers.GPT2Config(vocab_size=VOCAB_SIZE, n_embd=16, n_layer=2, n_head=2, n_positions=LENGTH),
    "opt": transformers.OPTConfig(**SIZES, ffn_dim=32, word_embed_proj_dim=16),
    "gemma2, whose logits are capped": transformers.Gemma2Config(**GROUPED, final_logit_softcapping=0.5),
    "granite, whose logits are scaled": transformers.GraniteConfig(**SIZES, logits_scaling=3.0),
}
MASKED: dict[str, Any] = {
    "bert": transformers.BertConfig(**SIZES),
    "roberta, whose positions begin at 2": transformers.RobertaConfig(**SIZES),
    "electra, whose embeddings are narrow": transformers.ElectraConfig(**SIZES, embedding_size=8),
}
SEQ2SEQ: dict[str, Any] = {
    "t5": transformers.T5Config(vocab_size=VOCAB_SIZE, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2),
    "bart": transformers.BartConfig(**BART, bos_token_id=2, eos_token_id=3, forced_eos_token_id=3),
}
ALL = {
    **{name: (config, Head.causal) for name, config in CAUSAL.items()},
    **{name: (config, Head.masked) for name, config in MASKED.items()},
    **{name: (config, Head.seq2seq) for name, config in SEQ2SEQ.items()},
}


def whole_model(config: Any, head: Head, seed: int = 0) -> Any:
    """Return transformers' own model, every weight moved by N(0, 0.2^2)."""
    torch.manual_seed(seed)
    model = getattr(transformers, AUTO_CLASSES[head]).from_config(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.2)
    return model


def save(model: Any, folder: Path) -> Path:
    """Write a model as `save_pretrained` does, and return the folder."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        transformers.utils.logging.disable_progress_bar()
        model.save_pretrained(folder)
    return folder


def load(folder: Path, head: Head = Head.causal, **changes: Any) -> Pretrained:
    """Return our model of a folder."""
    sizes = {"vocab_size": VOCAB_SIZE, "context_length": 16} | changes
    return Pretrained(HFConfig(name_or_path=str(folder), head=head), **sizes).eval()


def random_tokens(rows: int, length: int, seed: int = 1) -> Tensor:
    """Return tokens drawn evenly, none of them special."""
    return torch.randint(4, VOCAB_SIZE, (rows, length), generator=torch.Generator().manual_seed(seed))


def assert_close(actual: Tensor, expected: Tensor) -> None:
    """Raise unless two float32 tensors agree to 1e-5."""
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)
