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

    @property
    def metric_names(self) -> tuple[str, ...]:
        """What a run logs of its val split; a sweep chooses by the first."""
        return ("val/bits_per_byte", "val/loss_nats", "val/perplexity")


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

    @property
    def metric_names(self) -> tuple[str, ...]:
        return ("val/loss_nats", "val/perplexity")


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

    @property
    def metric_names(self) -> tuple[str, ...]:
        of_answers = ("exact_match", "rouge1", "rouge2", "rougeL", "chrf") if self.num_answers else ()
        return ("val/loss_nats", "val/bits_per_byte", "val/perplexity", *(f"val/{name}" for name in of_answers))

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

    @property
    def metric_names(self) -> tuple[str, ...]:
        return tuple(
            f"val/{name}" for name in ("loss_nats", "accuracy", "margin_nats", "chosen_reward", "rejected_reward")
        )


class TextMetric(Enum):
    """How a written text is compared with the one that should be there."""

    bleu = "bleu"
    chrf = "chrf"
    rouge = "rouge"
    exact_match = "exact_match"


@dataclass(kw_only=True)
class Seq2SeqConfig(TaskConfig):
    """Write one text from another: translations, summaries, any pairs."""

    name = "seq2seq"
    builds = "lmexp.tasks.seq2seq:Seq2Seq"
    fits = (Kind.encoder_decoder,)
    reads = Content.pairs

    label_smoothing: float = setting(0.1, at_least=0, below=1)
    """Share of each target token's weight that is spread over the vocabulary in training; validation has none."""
    metrics: list[TextMetric] = setting(default_factory=lambda: [TextMetric.bleu, TextMetric.chrf])
    """What is written is compared with the targets by: bleu and chrf (sacreBLEU), rouge (1, 2 and L; Latin letters
    only), exact_match. [] writes nothing (extra eval)."""
    lowercase: bool = setting(False)
    """Compare without case."""
    bleu_tokenizer: str = setting("13a", one_of=("13a", "intl", "zh", "char", "none"))
    """How sacreBLEU cuts texts into words: 13a for languages with spaces, zh for Chinese, char for characters."""
    num_written: int = setting(100, at_least=1, identity=False)
    """So many sources of the val split are written from when it is measured; of the test split all are."""
    num_beams: int = setting(5, at_least=1, identity=False)
    """Beams of the search for the likeliest text; 1 takes the likeliest token each time."""
    length_penalty: float = setting(1.0, identity=False)
    """Of beam search: larger for longer texts."""
    max_tokens: int | None = setting(None, at_least=1, identity=False)
    """Tokens of a text at most; null takes data.context_length."""

    @property
    def metric_names(self) -> tuple[str, ...]:
        parts = {TextMetric.rouge: ("rouge1", "rouge2", "rougeL")}
        written = (name for metric in self.metrics for name in parts.get(metric, (metric.name,)))
        return ("val/loss_nats", "val/bits_per_byte", "val/perplexity", *(f"val/{name}" for name in written))

    def check(self) -> Iterator[tuple[str, str]]:
        yield from super().check()
        needed = {TextMetric.bleu: "sacrebleu", TextMetric.chrf: "sacrebleu", TextMetric.rouge: "rouge_score"}
        for package in dict.fromkeys(needed[metric] for metric in self.metrics if metric in needed):
            if find_spec(package) is None:
                yield "metrics", f"{package} must be installed: pip install 'lmexp[eval]'"


class Pooling(Enum):
    """How the hidden states of a text become one."""

    mean = "mean"
    max = "max"
    first = "first"
    last = "last"
    attention = "attention"


@dataclass(kw_only=True)
class ClassifyConfig(TaskConfig):
    """Tell which label a text has: sentiment, topics, any others."""

    name = "classify"
    builds = "lmexp.tasks.classify:Classify"
    fits = (Kind.decoder, Kind.encoder)
    reads = Content.labels

    pooling: Pooling = setting(Pooling.mean)
    """The hidden state that the labels are scored from: the mean of all, the largest value of each number, that of the
    first token (BERT's [CLS]), of the last one, or a mean with learned weights (attention)."""
    dropout: float = setting(0.1, at_least=0, below=1)
    """Share of that state dropped while training."""
    label_smoothing: float = setting(0.0, at_least=0, below=1)
    """Share of each label's weight that is spread over all labels in training; validation has none."""
    class_weights: list[float] = setting(default_factory=list)
    """Weight of each label in the loss of training, in the order of the labels; [] weighs all alike."""
    balanced: bool = setting(False)
    """Weigh each label in the loss of training by how rare it is: examples / (labels * examples of this label)."""

    @property
    def metric_names(self) -> tuple[str, ...]:
        return ("val/loss_nats", "val/accuracy", "val/macro_f1", "val/calibration_error")

    def check(self) -> Iterator[tuple[str, str]]:
        yield from super().check()
        if self.balanced and self.class_weights:
            yield "balanced", "gives the weights that task.class_weights gives already; give one of the two"
        if any(weight <= 0 for weight in self.class_weights):
            yield "class_weights", "must be above 0"
