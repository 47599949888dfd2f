"""Runs made by hand, with weights large enough that a wrong name, order or transpose shows."""

import dataclasses
import json
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from lmexp import checkpoints
from lmexp.config.data import PythonDocsConfig
from lmexp.config.model import GELU, BERTConfig, GPT2Config, Kind, LSTMConfig, ModelConfig, TransformerConfig
from lmexp.config.task import MaskedConfig, PretrainConfig
from lmexp.config.tokenizer import CharactersConfig
from lmexp.config.train import TrainConfig
from lmexp.models.adapters import build_model
from lmexp.runs import RunFolder
from lmexp.tokenization import learn

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import transformers

transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()

LENGTH = 32
SMALL: dict[str, Any] = {"num_layers": 2, "hidden_size": 16}
CONFIGS: dict[str, Any] = {
    "llama": TransformerConfig(**SMALL, qk_norm=False),
    "llama, grouped queries, untied": TransformerConfig(
        **SMALL, qk_norm=False, num_key_value_heads=2, tie_embeddings=False, rope_theta=5e4, norm_epsilon=1e-5
    ),
    "qwen3": TransformerConfig(**SMALL),
    "qwen3, wide heads": TransformerConfig(**SMALL, num_heads=2, head_size=10, mlp_size=24),
    "gpt2 as nanogpt has it": GPT2Config(**SMALL),
    "gpt2 as published": GPT2Config(**SMALL, bias=True, gelu=GELU.tanh, max_positions=LENGTH + 4),
    "gpt2, untied": GPT2Config(**SMALL, bias=True, tie_embeddings=False),
    "bert": BERTConfig(**SMALL),
    "bert, untied": BERTConfig(**SMALL, tie_embeddings=False, mlp_size=24, gelu=GELU.tanh, num_token_types=1),
}
LSTMS: dict[str, Any] = {
    "lstm": LSTMConfig(**SMALL),
    "lstm, projected": LSTMConfig(**SMALL, embedding_size=10),
    "lstm, untied, no bias": LSTMConfig(**SMALL, tie_embeddings=False, output_bias=False),
    "lstm, adaptive": LSTMConfig(**SMALL, adaptive_cutoffs=[20, 60]),
}


def made_run(model: ModelConfig, name: str = "made", **record: Any) -> RunFolder:
    """Return a finished run below outputs/ whose every weight was moved by N(0, 0.3^2)."""
    config = TrainConfig(
        name=name,
        model=dataclasses.replace(model),
        data=PythonDocsConfig(context_length=LENGTH),
        tokenizer=CharactersConfig(),
        task=MaskedConfig() if model.kind is Kind.encoder else PretrainConfig(),
    )
    tokenizer = learn(config.tokenizer, ["The quick brown fox. 0123456789\n"])
    torch.manual_seed(0)
    built = build_model(config, tokenizer)
    with torch.no_grad():
        for weight in built.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.3)
    run = RunFolder(Path("outputs") / "lmexp" / name)
    run.create(config)
    tokenizer.save(run.tokenizer)
    checkpoints.write(run.checkpoints / "step-000007", built.state_dict())
    run.update(id=name, status="done", step=7, tokenizer_hash=tokenizer.hash, **record)
    return run


def random_tokens(vocab_size: int, rows: int = 64, length: int = 24) -> Tensor:
    """Return tokens drawn evenly."""
    return torch.randint(vocab_size, (rows, length), generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def our_logits(run: RunFolder, tokens_BT: Tensor) -> Tensor:
    """Return the logits of a run."""
    model = checkpoints.load_run(run.path).model
    return model.head.logits(model(tokens_BT)[0])


@torch.no_grad()
def their_logits(folder: Path, tokens_BT: Tensor) -> Tensor:
    """Return the logits of what transformers loads from a folder."""
    kind = json.loads((folder / "config.json").read_text())["architectures"][0]
    auto = transformers.AutoModelForMaskedLM if "Masked" in kind else transformers.AutoModelForCausalLM
    model, info = auto.from_pretrained(folder, local_files_only=True, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    return model.eval()(tokens_BT).logits


def assert_close(actual: Tensor, expected: Tensor) -> None:
    """Raise unless two float32 tensors agree to 1e-5."""
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)


def change_config(folder: Path, **changes: Any) -> None:
    """Change keys of a config.json; None takes a key away."""
    path = folder / "config.json"
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not ...}))


def change_tensors(folder: Path, **changes: Tensor | None) -> None:
    """Change tensors of a folder; None takes one away. Underscores twice stand for dots."""
    path = folder / "model.safetensors"
    tensors = load_file(path) | {name.replace("__", "."): tensor for name, tensor in changes.items()}
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, path, {"format": "pt"})
