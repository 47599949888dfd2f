"""The root of a training config: one option of each group, and what belongs to the run as a whole."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from lmexp.config.callbacks import CallbacksConfig
from lmexp.config.chat import ChatConfig as ChatConfig
from lmexp.config.data import AUTO, DataConfig, Order, PythonDocsConfig
from lmexp.config.labels import LabelledConfig as LabelledConfig
from lmexp.config.logger import LoggerConfig, WandbConfig
from lmexp.config.model import ModelConfig, TransformerConfig
from lmexp.config.optimizer import MuonConfig, OptimizerConfig
from lmexp.config.pairs import PairsConfig as PairsConfig
from lmexp.config.pretrained import HFConfig as HFConfig
from lmexp.config.schedule import LinearConfig, ScheduleConfig
from lmexp.config.schema import OPTIONS, Settings, setting
from lmexp.config.task import PretrainConfig, TaskConfig
from lmexp.config.tokenizer import BPEConfig, HFTokenizerConfig, TokenizerConfig
from lmexp.config.trainer import Strategy, TrainerConfig


@dataclass(kw_only=True)
class TrainConfig(Settings):
    """Everything that makes a training run."""

    seed: int = setting(0, at_least=0)
    """Draws the initial weights, the order of the data and dropout. Another seed is another sample of the same
    experiment."""
    project: str = setting("lmexp", identity=False)
    """Folder of runs below outputs/, and the project at W&B."""
    name: str | None = setting(None, identity=False)
    """What people call the run; null makes it from the model and the data: transformer-python_docs."""
    resume: str = setting("auto", identity=False)
    """When the same run is there already. auto: show it when done, go on where it was cut off. force: go on even
    though it failed or the code has changed. never: start again, in a new folder. A run (path or part of its name):
    train that finished run for longer; only a few keys, such as trainer.max_steps, may change."""
    init_from: str | None = setting(None, identity=False)
    """A run whose weights, model and tokenizer this one begins with (path or part of its name): fine-tuning. The
    identity of the new run holds those weights, wherever they are."""
    output_dir: str = setting("outputs", identity=False)
    """Folder of all projects; relative to the working folder."""

    data: DataConfig = setting(default_factory=PythonDocsConfig)
    """Where text comes from and how it is cut into batches."""
    tokenizer: TokenizerConfig = setting(default_factory=BPEConfig)
    """How text becomes numbers."""
    model: ModelConfig = setting(default_factory=TransformerConfig)
    """What is trained."""
    task: TaskConfig = setting(default_factory=PretrainConfig)
    """What the model learns to do."""
    optimizer: OptimizerConfig = setting(default_factory=MuonConfig)
    """How gradients change the weights."""
    schedule: ScheduleConfig = setting(default_factory=LinearConfig)
    """How the learning rate moves over the run."""
    trainer: TrainerConfig = setting(default_factory=TrainerConfig)
    """How long, how often, how exact and on what hardware."""
    callbacks: CallbacksConfig = setting(default_factory=CallbacksConfig)
    """What happens beside training."""
    logger: LoggerConfig = setting(default_factory=WandbConfig)
    """Where metrics go beside the run folder."""

    def __post_init__(self) -> None:
        if isinstance(self.tokenizer, HFTokenizerConfig) and self.tokenizer.name_or_path is None:
            self.tokenizer = replace(self.tokenizer, name_or_path=getattr(self.model, "name_or_path", None))

    @property
    def display_name(self) -> str:
        """The name of the run: `name`, or model-data."""
        return self.name or f"{self.model.name}-{self.data.name}"

    def check(self) -> Iterator[tuple[str, str]]:
        yield from super().check()
        yield from self._problems_of_batch_sizes()
        yield from self._problems_of_large_models()
        if self.data.order is Order.contiguous and self.model.name != "lstm":
            yield "data.order", f"contiguous order carries a state from batch to batch, and {self.model.name} has none"
        positions = getattr(self.model, "max_positions", None)
        if getattr(self.model, "has_position_table", False) and positions and self.data.context_length > positions:
            message = f"{self.data.context_length} is more than the {positions} positions of the model"
            yield "data.context_length", f"{message} (model.max_positions)"
        if self.model.kind not in self.task.fits:
            fitting, kind = ", ".join(kind.name for kind in self.task.fits), self.model.kind.name
            yield "task", f"{self.task.name} is for models of kind {fitting}; {self.model.name} is of kind {kind}"
        if self.task.reads is not self.data.content:
            yield "task", self._problem_of_content()
        if getattr(self.data, "separate_tokenizers", False):
            if self.model.name == "hf":
                yield "data.separate_tokenizers", "a published model has one vocabulary; leave it at false"
            elif not self.tokenizer.is_learned and self.init_from is None:
                yield "data.separate_tokenizers", f"tokenizer={self.tokenizer.name} is one that is there already"
        if getattr(self.model, "adaptive_cutoffs", None) and self.tokenizer.name not in ("words", "file"):
            yield "model.adaptive_cutoffs", "needs tokens in the order of their frequency: tokenizer=words"
        if self.data.end_of_document and not getattr(self.tokenizer, "end_of_document", True):
            yield "data.end_of_document", "the tokenizer has no such token: set tokenizer.end_of_document=true too"
        for key in ("project", "name"):
            value = getattr(self, key)
            if value is not None and (not value.strip(". ") or any(character in value for character in '/\\\0:*?"<>|')):
                yield key, f"'{value}' cannot be the name of a folder"

    @property
    def begins_with_weights(self) -> bool:
        """Whether the model has learned something before: then the run is measured before its first step, too."""
        return self.init_from is not None or isinstance(self.model, HFConfig)

    @property
    def rows_per_step(self) -> int:
        """Rows in one optimizer step."""
        return self.data.global_batch_size or self.data.rows * self.trainer.accumulate

    def settled(self, batch_size: int | None = None) -> "TrainConfig":
        """Return the same config with numbers for batch sizes; `batch_size` is what auto has come to on a machine."""
        if self.data.global_batch_size is None:
            return self
        rows = batch_size if self.data.batch_size == AUTO else self.data.rows
        assert rows is not None, "data.batch_size=auto has not come to a number"
        sizes: dict[str, Any] = {"batch_size": rows, "global_batch_size": None}
        if self.data.order is Order.contiguous:  # streams of an evaluation, which its result depends on
            sizes["evaluation_batch_size"] = self.data.evaluation_rows
        trainer = replace(self.trainer, accumulate=self.data.global_batch_size // rows)
        return replace(self, data=replace(self.data, **sizes), trainer=trainer)

    def _problem_of_content(self) -> str:
        fitting = [name for name, task in OPTIONS["task"].items() if task.reads is self.data.content]  # type: ignore[attr-defined]
        named = " or ".join(f"task={name}" for name in fitting)
        return f"data={self.data.name} holds {self.data.content.name}, which {self.task.name} does not learn: {named}"

    def _problems_of_batch_sizes(self) -> Iterator[tuple[str, str]]:
        rows, whole, devices = self.data.batch_size, self.data.global_batch_size, self.trainer.devices or 1
        if isinstance(rows, int) and rows % devices:
            yield "data.batch_size", f"{rows} rows cannot be shared evenly by {devices} devices"
        if whole is None:
            if rows == AUTO:
                yield "data.global_batch_size", "must be given with data.batch_size=auto: the rows of an optimizer step"
            return
        if rows == AUTO and self.data.limit_batches is not None:
            yield "data.limit_batches", "counts batches, which auto makes as large as the machine allows"
        if self.trainer.accumulate != 1:
            yield "trainer.accumulate", "follows from data.global_batch_size; give one of the two"
        if isinstance(rows, int) and whole % rows:
            yield "data.global_batch_size", f"{whole} rows cannot be cut into micro-steps of {rows}"
        elif whole % devices:
            yield "data.global_batch_size", f"{whole} rows cannot be shared evenly by {devices} devices"

    def _problems_of_large_models(self) -> Iterator[tuple[str, str]]:
        if not self.model.has_blocks:
            if self.trainer.activation_checkpointing:
                yield "trainer.activation_checkpointing", f"{self.model.name} has no blocks to compute again"
            if self.trainer.strategy is Strategy.fsdp:
                yield "trainer.strategy", f"{self.model.name} has no blocks to shard; train it with strategy=ddp"
        if self.trainer.strategy is not Strategy.fsdp:
            return
        if isinstance(self.optimizer, MuonConfig):
            yield "optimizer", "muon moves whole matrices, which fsdp keeps in parts; take optimizer=adamw"
        if self.trainer.compile:
            yield "trainer.compile", "is not there for strategy=fsdp"
        if self.callbacks.ema_decay is not None:
            yield "callbacks.ema_decay", "is not there for strategy=fsdp"
