"""What happens beside training: checkpoints, early stopping, samples, extra metrics, weight averaging."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from lmexp.config.schema import Option, Settings, setting


class Mode(Enum):
    """Which direction of a metric is better."""

    min = "min"
    max = "max"


@dataclass(kw_only=True)
class CheckpointConfig(Settings):
    """Which checkpoints are kept."""

    keep_last: int = setting(1, at_least=1, identity=False)
    """The newest so many stay."""
    keep_best: int = setting(1, at_least=0, identity=False)
    """So many with the best metric stay too; a validation that reaches them saves at once."""
    metric: str = setting("val/loss_nats", identity=False)
    """The metric that says which is best."""
    mode: Mode = setting(Mode.min, identity=False)
    """min: lower is better; max: higher is."""


@dataclass(kw_only=True)
class EarlyStoppingConfig(Settings):
    """Stop when validation no longer gets better."""

    patience: int | None = setting(None, at_least=1)
    """Validations without a better value before the run ends; null never stops early."""
    metric: str = setting("val/loss_nats")
    """The metric that is watched."""
    mode: Mode = setting(Mode.min)
    """min: lower is better; max: higher is."""
    min_delta: float = setting(0.0, at_least=0)
    """A change smaller than this is no improvement."""


@dataclass(kw_only=True)
class SamplesConfig(Settings):
    """Texts generated along the way and at the end, kept in samples.jsonl."""

    prompts: list[str] = setting(default_factory=lambda: ["The ", "def ", "Return "], identity=False)
    """What the texts begin with; empty for no samples."""
    max_tokens: int = setting(60, at_least=1, identity=False)
    """Tokens to generate for each."""
    temperature: float = setting(0.8, at_least=0, identity=False)
    """0 takes the likeliest token; 1 samples from the model as it is."""
    every_steps: int | None = setting(None, at_least=1, identity=False)
    """Optimizer steps between samples; null samples at the end only."""


@dataclass(kw_only=True)
class CallbacksConfig(Option):
    """All callbacks; each is off or at its simplest by default."""

    group = "callbacks"
    name = "standard"
    builds = "lmexp.training.callbacks:build_callbacks"

    checkpoint: CheckpointConfig = setting(default_factory=CheckpointConfig)
    """Which checkpoints are kept."""
    early_stopping: EarlyStoppingConfig = setting(default_factory=EarlyStoppingConfig)
    """Stop when validation no longer gets better."""
    samples: SamplesConfig = setting(default_factory=SamplesConfig)
    """Texts generated along the way and at the end."""
    log_learning_rate: bool = setting(True, identity=False)
    """Record the learning rate with the other metrics."""
    log_gradient_norm: bool = setting(True, identity=False)
    """Record the norm of the gradient before clipping."""
    ema_decay: float | None = setting(None, above=0, below=1)
    """Validate and keep an exponential moving average of the weights with this decay; null trains without."""

    def check(self) -> Iterator[tuple[str, str]]:
        yield from super().check()
        for key in ("checkpoint", "early_stopping"):
            metric = getattr(self, key).metric
            if not metric.startswith("val/"):
                yield (
                    f"{key}.metric",
                    f"'{metric}' is not measured on the validation split; take one like val/loss_nats",
                )
