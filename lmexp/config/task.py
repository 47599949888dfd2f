"""What the model learns to do."""

from dataclasses import dataclass
from typing import ClassVar

from lmexp.config.data import Content
from lmexp.config.model import Kind
from lmexp.config.schema import Option, setting


@dataclass(kw_only=True)
class TaskConfig(Option):
    """What every task has: nothing yet."""

    group = "task"
    fits: ClassVar[tuple[Kind, ...]] = (Kind.decoder,)
    """The kinds of models that can learn it."""
    reads: ClassVar[Content] = Content.text


@dataclass(kw_only=True)
class PretrainConfig(TaskConfig):
    """Predict the next token of plain text (cross-entropy)."""

    name = "pretrain"
    builds = "lmexp.tasks.pretrain:Pretrain"


@dataclass(kw_only=True)
class MaskedConfig(TaskConfig):
    """Fill in masked tokens (BERT's masked language modelling)."""

    name = "masked"
    builds = "lmexp.tasks.masked:Masked"
    fits = (Kind.encoder,)

    masked_fraction: float = setting(0.15, above=0, below=1)
    """Share of the tokens that are to be predicted; of these 80 % become the mask token, 10 % a random one, and 10 %
    stay as they are."""
    whole_words: bool = setting(False)
    """Mask all tokens of a word or none."""


@dataclass(kw_only=True)
class SFTConfig(TaskConfig):
    """Learn the answers in conversations (supervised fine-tuning)."""

    name = "sft"
    builds = "lmexp.tasks.sft:SFT"
    reads = Content.answers
