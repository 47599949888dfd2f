"""What happens beside training. Each callback costs Lightning some microseconds a step, so there are few."""

from typing import Any

from pytorch_lightning import Callback, Trainer
from pytorch_lightning.callbacks import EarlyStopping, EMAWeightAveraging

from lmexp import checkpoints
from lmexp.checkpoints import FolderCheckpointIO
from lmexp.config.callbacks import CallbacksConfig, CheckpointConfig, Mode, SamplesConfig
from lmexp.config.model import Kind
from lmexp.config.trainer import Strategy
from lmexp.errors import DataError, Stopped, StorageError
from lmexp.generation.forms import form_of
from lmexp.generation.sampling import Sampling
from lmexp.generation.text import generate
from lmexp.runs import RunFolder
from lmexp.tasks.base import Task
from lmexp.training.resident import return_holes
from lmexp.training.signals import StopSignals

FAILURES_TOLERATED = 2


def build_callbacks(
    config: CallbacksConfig,
    *,
    run: RunFolder,
    checkpoint_every_steps: int | None,
    signals: StopSignals,
    checkpoint_io: FolderCheckpointIO,
) -> list[Callback]:
    """Return the callbacks of a run; the checkpoints come last, so that they hold what the others changed."""
    callbacks: list[Callback] = [Holes()]
    stopping = config.early_stopping
    if stopping.patience is not None:
        callbacks.append(
            EarlyStopping(
                stopping.metric, patience=stopping.patience, mode=stopping.mode.name, min_delta=stopping.min_delta
            )
        )
    if config.ema_decay is not None:
        callbacks.append(EMAWeightAveraging(decay=config.ema_decay))
    if config.samples.prompts:
        callbacks.append(Samples(config.samples, run))
    callbacks.append(Checkpoints(config.checkpoint, run, checkpoint_every_steps, signals, checkpoint_io))
    return callbacks


class Holes(Callback):
    """Gives back what malloc holds in vain before an evaluation, whose tensors are of other sizes than a step's."""

    def on_validation_start(self, trainer: Trainer, pl_module: Any) -> None:
        return_holes()

    def on_test_start(self, trainer: Trainer, pl_module: Any) -> None:
        return_holes()


class Checkpoints(Callback):
    """Save every so many steps, when validation is among the best, at the end, and when told to stop.

    Everything happens before a step begins: the step before is then wholly over, its validation included.
    """

    def __init__(
        self,
        config: CheckpointConfig,
        run: RunFolder,
        every_steps: int | None,
        signals: StopSignals,
        checkpoint_io: FolderCheckpointIO,
    ) -> None:
        self.config, self.run, self.every_steps = config, run, every_steps
        self.signals, self.checkpoint_io = signals, checkpoint_io
        self._measured_at: tuple[int, dict[str, float]] = (0, {})
        self._is_among_best = False

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        self.signals.install()
        pl_module.after_step = lambda ends_stretch: self._stop_inside_stretch(trainer, pl_module, ends_stretch)

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        step = pl_module.steps_done
        is_due = self.every_steps is not None and step % self.every_steps == 0
        if self.signals.agreed:
            self._stop(trainer, pl_module)
        elif step and (is_due or self._is_among_best):
            self._save(trainer, pl_module)

    def _stop_inside_stretch(self, trainer: Trainer, task: Task, ends_stretch: bool) -> None:
        """Stop after this step; at the end of a stretch its validation comes first, and the next one does not begin."""
        if self.signals.poll(trainer.world_size) and not ends_stretch:
            self._stop(trainer, task)

    def _stop(self, trainer: Trainer, task: Task) -> None:
        self._save(trainer, task)
        raise Stopped(f"stopped at step {task.steps_done}; the same command goes on from there", self.signals.agreed)

    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        if not pl_module.steps_done:  # of weights that the run began with, which are kept elsewhere
            return
        measured = {key: value for key, value in pl_module.last_metrics.items() if key.startswith("val/")}
        value = measured.get(self.config.metric)
        self._measured_at = (pl_module.steps_done, measured)
        if value is None or not self.config.keep_best or not trainer.is_global_zero:
            is_among_best = False
        else:
            lowest = self.config.mode is Mode.min
            best = checkpoints.best_of(
                self.run.checkpoints, self.config.metric, lowest=lowest, count=self.config.keep_best
            )
            values = [checkpoints.read_meta(folder)["metrics"][self.config.metric] for folder in best]
            worst = (max(values) if lowest else min(values)) if values else None
            is_among_best = len(values) < self.config.keep_best or (value < worst if lowest else value > worst)
        self._is_among_best = trainer.strategy.broadcast(is_among_best)

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        self._save(trainer, pl_module)

    def _save(self, trainer: Trainer, task: Task) -> None:
        """Write a checkpoint and delete those that are no longer kept.

        Raises:
            StorageError: the disk has failed three times in a row.
        """
        task.require_finite()
        self._is_among_best = False
        step = task.steps_done
        metrics = self._measured_at[1] if self._measured_at[0] == step else {}
        path = self.run.checkpoints / f"step-{step:06d}"
        trainer.save_checkpoint(path, storage_options={"step": step, "metrics": metrics})
        failures = trainer.strategy.broadcast(self.checkpoint_io.failures_in_a_row)
        if failures:
            self.run.warn(f"checkpoint not written: {self.checkpoint_io.last_failure}")
            is_last_chance = step >= task.max_steps or self.signals.received
            if failures > FAILURES_TOLERATED or is_last_chance:
                raise StorageError(
                    f"no checkpoint could be written: {self.checkpoint_io.last_failure}; free some space, then "
                    "resume=force goes on from the last one that was"
                )
        elif trainer.is_global_zero:
            self._tidy(step)

    def _tidy(self, step: int) -> None:
        """Keep the newest and the best; delete the others, after the new one has proved intact."""
        folder = self.run.checkpoints
        checkpoints.verify(folder / f"step-{step:06d}")
        lowest = self.config.mode is Mode.min
        best = checkpoints.best_of(folder, self.config.metric, lowest=lowest, count=max(1, self.config.keep_best))
        kept = checkpoints.listing(folder)[-self.config.keep_last :] + best[: self.config.keep_best]
        for path in checkpoints.listing(folder):
            if path not in kept:
                self.checkpoint_io.remove_checkpoint(path)
        changes: dict[str, Any] = {"step": step}
        if best:
            changes["best_checkpoint"] = best[0].name
            best_metrics = checkpoints.read_meta(best[0])["metrics"]
            changes["metrics"] = {f"best/{self.config.metric}": best_metrics[self.config.metric]}
        self.run.update(**changes)


class Samples(Callback):
    """Generate texts from fixed prompts: before the first step of a run that begins with weights, every so many steps,
    and at the end.
    """

    def __init__(self, config: SamplesConfig, run: RunFolder) -> None:
        self.config, self.run = config, run

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        if not pl_module.steps_done and pl_module.config.begins_with_weights:
            self._sample(trainer, pl_module)

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        every, step = self.config.every_steps, pl_module.steps_done
        if every and step and step % every == 0:
            self._sample(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        self._sample(trainer, pl_module)

    def _sample(self, trainer: Trainer, task: Task) -> None:
        step = task.steps_done
        if task.config.model.kind is Kind.encoder or task.corpus.labels:  # it continues no text
            return
        if task.config.trainer.strategy is Strategy.fsdp:  # no device has the whole model
            return
        if not trainer.is_global_zero or any(row["step"] == step for row in self.run.samples):
            return
        rows, form = [], form_of(task.config, task.corpus.tokenizer)
        for number, prompt in enumerate(self.config.prompts):
            sampling = Sampling(
                max_tokens=self.config.max_tokens, temperature=self.config.temperature, seed=task.config.seed + number
            )
            try:
                text = generate(task.model, form, prompt, sampling)
            except DataError as error:  # a prompt of characters that this tokenizer does not have
                self.run.warn(f"no sample for the prompt {prompt!r}: {error}")
                continue
            rows.append({"step": step, "prompt": prompt, "text": text})
            self.run.append("samples.jsonl", rows[-1])
        for logger in trainer.loggers:
            if hasattr(logger, "log_samples"):
                logger.log_samples(rows)
