"""Where metrics go. The run folder is the truth; W&B and TensorBoard are mirrors that can fail without harm.

Everything W&B does happens in a thread of its own, fed by a queue: a server that does not answer or a helper process
that dies slows no step and stops no run.
"""

import os
import queue
import threading
from typing import Any

from pytorch_lightning.loggers import Logger, TensorBoardLogger

from lmexp.config.logger import LoggerConfig, TensorBoardConfig, WandbConfig
from lmexp.config.train import TrainConfig
from lmexp.errors import MissingPackageError
from lmexp.runs import RunFolder
from lmexp.runs.sync import load_environment, mirror_arguments, samples_row, start_mirror

FINISH_SECONDS = 30.0
Row = dict[str, Any]


class RunLogger(Logger):
    """metrics.jsonl, and the newest evaluation in run.json."""

    def __init__(self, run: RunFolder) -> None:
        super().__init__()
        self.run = run

    @property
    def name(self) -> str:
        return "run"

    @property
    def version(self) -> str:
        return self.run.path.name

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        row = {"step": step, **metrics}
        self.run.append("metrics.jsonl", row)
        evaluated = {key: value for key, value in metrics.items() if key.startswith(("val/", "test/"))}
        if evaluated:
            self.run.update(metrics=evaluated, step=step, tokens=metrics["tokens"])

    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        """Do nothing: config.yaml is there before training starts."""


class WandbMirror(Logger):
    """W&B, from a thread."""

    def __init__(self, config: WandbConfig, *, run: RunFolder, train_config: TrainConfig) -> None:
        super().__init__()
        self.config, self.run, self.train_config = config, run, train_config
        self._queue: queue.Queue[tuple[str, Any]] = queue.Queue()
        self._thread = threading.Thread(target=self._work, name="wandb", daemon=True)
        self._thread.start()

    @property
    def name(self) -> str:
        return self.config.project or self.train_config.project

    @property
    def version(self) -> str:
        return str(self.run.record.get("id"))

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self._queue.put(("log", {"step": step, **metrics}))

    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        """Do nothing: the whole config is given at the start."""

    def log_samples(self, rows: list[Row]) -> None:
        """Add rows to the table of samples."""
        self._queue.put(("samples", rows))

    def close(self, exit_code: int) -> None:
        """End the W&B run, within a time limit."""
        self._queue.put(("finish", exit_code))
        self._thread.join(FINISH_SECONDS)
        if self._thread.is_alive():
            self.run.warn(f"W&B did not finish in {FINISH_SECONDS:.0f} seconds; `wandb sync` can upload the run later")

    def _work(self) -> None:
        try:
            self._mirror()
        except Exception as error:  # whatever W&B raises, the run goes on
            self.run.warn(f"W&B stopped: {type(error).__name__}: {error}; metrics.jsonl has everything")

    def _mirror(self) -> None:
        load_environment()
        wanted = self.config.mode
        mode = wanted.name if wanted else os.environ.get("WANDB_MODE", "offline")
        mirror = start_mirror(mirror_arguments(self.run, self.train_config, mode=mode))
        samples: list[Row] = []
        while True:
            kind, value = self._queue.get()
            if kind == "finish":
                mirror.finish(exit_code=value)
                return
            if kind == "log":
                mirror.log(value)
            elif value:
                samples += value
                mirror.log(samples_row(samples))


def build_tensorboard(config: TensorBoardConfig, *, run: RunFolder, train_config: TrainConfig) -> Logger:
    """Return Lightning's TensorBoard logger, writing to the run folder."""
    try:
        import tensorboard  # type: ignore[import-untyped]  # noqa: F401
    except ImportError:
        raise MissingPackageError("tensorboard", "tensorboard") from None
    return TensorBoardLogger(save_dir=str(run.path), name="tensorboard", version="")


def build_no_logger(config: LoggerConfig, *, run: RunFolder, train_config: TrainConfig) -> None:
    """Return nothing: the run folder has everything."""
