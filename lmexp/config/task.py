"""What the model learns to do."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from importlib.util import find_spec
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

    num_answers: int = setting(0, at_least=0, identity=False)
    """So many questions of a held-out split are answered when it is measured, with the likeliest tokens, and compared
    with their answers: exact match, ROUGE-L and chrF (extra eval)."""
    answer_tokens: int = setting(100, at_least=1, identity=False)
    """Tokens of such an answer at most."""

    def check(self) -> Iterator[tuple[str, str]]:
        yield from super().check()
        missing = [name for name in ("sacrebleu", "rouge_score") if find_spec(name) is None]
        if self.num_answers and missing:
            yield "num_answers", f"{' and '.join(missing)} must be installed: pip install 'lmexp[eval]'"


class Reference(Enum):
    """How the model that a preference is learned from is asked."""

    precomputed = "precomputed"
    live = "live"


@dataclass(kw_only=True)
class PreferenceConfig(TaskConfig):
    """Prefer the chosen answer to the rejected one, near to what the model was before (DPO)."""

    name = "preference"
    builds = "lmexp.tasks.preference:Preference"
    reads = Content.preferences

    beta: float = setting(0.1, above=0)
    """How much it costs to go away from the reference: the smaller, the further the model may go."""
    reference: Reference = setting(Reference.precomputed)
    """The reference is the model as the run begins. precomputed: it is asked once about every answer, and what it says
    is kept in the run folder. live: a copy of it is asked at every step, which takes memory and time; of a model with
    adapters no copy is needed."""
