"""What a person sees while a run trains: a bar on a terminal, a line at each validation elsewhere."""

import sys
import time
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from rich import progress
from rich.console import Console

SECONDS_BETWEEN_UPDATES = 0.2


class Progress(Callback):
    """Step, loss, tokens per second and time left."""

    def __init__(self) -> None:
        self._bar: progress.Progress | None = None
        self._next_update = 0.0
        self._is_terminal = sys.stderr.isatty()

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        if not (self._is_terminal and trainer.is_global_zero):
            return
        self._bar = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(bar_width=None),
            progress.TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
            progress.TextColumn("{task.fields[numbers]}"),
            progress.TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            console=Console(stderr=True),
            refresh_per_second=4,
            expand=True,
        )
        self._bar.start()
        self._bar.add_task("train", total=pl_module.max_steps, completed=pl_module.steps_done, numbers="")

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *_: Any) -> None:
        if self._bar is None:
            return
        now = time.perf_counter()
        if now < self._next_update:
            return
        self._next_update = now + SECONDS_BETWEEN_UPDATES
        self._bar.update(progress.TaskID(0), completed=pl_module.steps_done, numbers=self._numbers(pl_module))

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._bar is not None:
            self._bar.update(progress.TaskID(0), description="validate")

    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        if self._bar is not None:
            self._bar.update(progress.TaskID(0), description="train", numbers=self._numbers(pl_module))
        elif trainer.is_global_zero:
            print(f"step {pl_module.steps_done:,}/{pl_module.max_steps:,}  {self._numbers(pl_module)}", file=sys.stderr)

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        if self._bar is not None:
            self._bar.update(progress.TaskID(0), completed=pl_module.steps_done, numbers=self._numbers(pl_module))
        self._stop()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _numbers(self, task: Any) -> str:
        metrics = task.last_metrics
        parts = []
        if "train/loss_nats" in metrics:
            parts.append(f"loss {metrics['train/loss_nats']:.3f}")
        if "val/loss_nats" in metrics:
            parts.append(f"val {metrics['val/loss_nats']:.3f}")
        if "train/tokens_per_second" in metrics:
            parts.append(f"{metrics['train/tokens_per_second']:,.0f} tokens/s")
        return "  ".join(parts)
