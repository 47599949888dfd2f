"""A model that Hugging Face's transformers builds, from a folder on this machine."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from lmexp.config.model import Kind, ModelConfig
from lmexp.config.schema import setting


class Head(Enum):
    """What the model is for, which says what transformers reads from the folder."""

    causal = "causal"
    masked = "masked"
    features = "features"
    classification = "classification"
    seq2seq = "seq2seq"


KINDS = {
    Head.causal: Kind.decoder,
    Head.masked: Kind.encoder,
    Head.features: Kind.encoder,
    Head.classification: Kind.classifier,
    Head.seq2seq: Kind.encoder_decoder,
}


@dataclass(kw_only=True)
class HFConfig(ModelConfig):
    """A pretrained model through transformers (extra hf); offline, never with remote code."""

    name = "hf"
    builds = "lmexp.models.pretrained:Pretrained"

    name_or_path: str | None = setting(None, identity=False)
    """A folder with config.json and safetensors, or a .gguf file; must be given."""
    head: Head = setting(Head.causal)
    """What the model is for: causal, masked, classification or seq2seq; features takes an encoder without a head, whose
    embeddings then score the tokens."""

    @property
    def kind(self) -> Kind:  # type: ignore[override]
        """What the chosen head makes of the model."""
        return KINDS[self.head]

    @property
    def path(self) -> Path:
        """The folder or the .gguf file."""
        return Path(self.name_or_path or "").expanduser()

    def check(self) -> Iterator[tuple[str, str]]:
        yield from super().check()
        problem = self._problem()
        if problem is not None:
            yield "name_or_path", problem

    def _problem(self) -> str | None:
        if self.name_or_path is None:
            return "must be given: a folder with config.json and safetensors, or a .gguf file"
        path = self.path
        if not path.exists():
            return f"nothing is there: {path}; models are read from this machine only"
        if path.is_dir():
            return _problem_of_folder(path)
        if path.suffix.lower() != ".gguf":
            return f"{path} is neither a folder with config.json and safetensors nor a .gguf file"
        if self.head is not Head.causal:
            return f"a .gguf file is read with model.head=causal only, not {self.head.name}"
        return None


def _problem_of_folder(folder: Path) -> str | None:
    try:
        described = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        model_type = described["model_type"]
    except FileNotFoundError:
        has_adapters = (folder / "adapter_config.json").is_file()
        hint = "; it holds adapters only: merge them into their model first" if has_adapters else ""
        return f"{folder} has no config.json{hint}"
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"{folder / 'config.json'} does not describe a model ({type(error).__name__}: {error})"
    if "auto_map" in described:
        return f"{folder} brings its own code ({model_type}: auto_map in config.json), and code of models is never run"
    if "quantization_config" in described:
        return f"{folder} holds quantized weights (quantization_config in config.json); take the unquantized model"
    if (folder / "adapter_config.json").is_file():
        return f"{folder} holds adapters (adapter_config.json); merge them into their model first"
    if not any(folder.glob("*.safetensors")):
        old = next((path.name for path in sorted(folder.glob("*.bin"))), None)
        if old is None:
            return f"{folder} has no .safetensors file"
        return (
            f"{folder} has its weights in {old}, a format that can run code when it is read; convert it where you trust"
            " it: AutoModel.from_pretrained(FOLDER).save_pretrained(NEW_FOLDER)"
        )
    return None
