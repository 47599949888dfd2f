"""What a person sees while a run trains: a bar on a terminal, a line at each validation elsewhere."""

import sys
from collections.abc import Iterable
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from rich import progress
from rich.console import Console, RenderableType


class Progress(Callback):
    """Step, loss, tokens per second and time left. The bar's own thread looks at the task; a step costs nothing."""

    def __init__(self) -> None:
        self._bar: TaskProgress | None = None
        self._is_terminal = sys.stderr.isatty()

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        if self._is_terminal and trainer.is_global_zero:
            self._bar = TaskProgress(pl_module)
            self._bar.start()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._bar is not None:
            self._bar.activity = "validate"

    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        if self._bar is not None:
            self._bar.activity = "train"
        elif trainer.is_global_zero:
            print(f"step {pl_module.steps_done:,}/{pl_module.max_steps:,}  {numbers(pl_module)}", file=sys.stderr)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._stop()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


class TaskProgress(progress.Progress):
    """A bar that reads its numbers off a task whenever it is drawn."""

    def __init__(self, task: Any) -> None:
        self.followed, self.activity = task, "train"
        self.bar_id: progress.TaskID | None = None
        super().__init__(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(bar_width=None),
            progress.TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
            progress.TextColumn("{task.fields[numbers]}"),
            progress.TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            console=Console(stderr=True),
            refresh_per_second=4,
            expand=True,
        )
        self.bar_id = self.add_task("train", total=task.max_steps, completed=task.steps_done, numbers="")

    def get_renderables(self) -> Iterable[RenderableType]:
        if self.bar_id is not None:
            done = self.followed.steps_done
            self.update(self.bar_id, completed=done, description=self.activity, numbers=numbers(self.followed))
        yield from super().get_renderables()


def numbers(task: Any) -> str:
    """Return the newest losses and the speed of a task."""
    metrics = dict(task.last_metrics)
    parts = []
    if "train/loss_nats" in metrics:
        parts.append(f"loss {metrics['train/loss_nats']:.3f}")
    if "val/loss_nats" in metrics:
        parts.append(f"val {metrics['val/loss_nats']:.3f}")
    if "train/tokens_per_second" in metrics:
        parts.append(f"{metrics['train/tokens_per_second']:,.0f} tokens/s")
    return "  ".join(parts)
