"""A model that Hugging Face's transformers builds, from a folder on this machine."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from lmexp.config.model import Kind, ModelConfig
from lmexp.config.schema import setting


class Head(Enum):
    """Which of transformers' Auto classes reads the folder."""

    causal = "causal"
    masked = "masked"
    classification = "classification"
    seq2seq = "seq2seq"


KINDS = {
    Head.causal: Kind.decoder,
    Head.masked: Kind.encoder,
    Head.classification: Kind.classifier,
    Head.seq2seq: Kind.encoder_decoder,
}


@dataclass(kw_only=True)
class HFConfig(ModelConfig):
    """A pretrained model through transformers (extra hf); offline, never with remote code."""

    name = "hf"
    builds = "lmexp.models.pretrained:Pretrained"

    name_or_path: str | None = setting(None)
    """A folder with config.json and safetensors, or a .gguf file; must be given."""
    head: Head = setting(Head.causal)
    """What the model is for: causal, masked, classification or seq2seq."""

    @property
    def kind(self) -> Kind:  # type: ignore[override]
        """What the chosen head makes of the model."""
        return KINDS[self.head]

    def check(self) -> Iterator[tuple[str, str]]:
        yield from super().check()
        if self.name_or_path is None:
            yield "name_or_path", "must be given: a folder with config.json and safetensors, or a .gguf file"
        elif not Path(self.name_or_path).expanduser().exists():
            yield "name_or_path", f"nothing is there: {self.name_or_path}; models are read from this machine only"
