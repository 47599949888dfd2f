"""Train from a run folder: the five builds, and the outcome written back (design rule 6)."""

import json
import logging
import os
import re
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Trainer

from lmexp import checkpoints
from lmexp.checkpoints import FolderCheckpointIO
from lmexp.config.schema import build
from lmexp.config.train import TrainConfig
from lmexp.config.trainer import Accelerator
from lmexp.data.corpus import Corpus, prepare
from lmexp.data.datamodule import TextDataModule
from lmexp.errors import DistributedError, LmexpError, RunError, Stopped
from lmexp.models.adapters import build_model, num_trainable
from lmexp.models.pretrained import Pretrained
from lmexp.models.state import LanguageModel
from lmexp.runs import RunFolder
from lmexp.runs.folder import now, replace_file
from lmexp.tasks.base import Task, seed_everything
from lmexp.training import resident
from lmexp.training.costs import count, count_steps
from lmexp.training.loggers import RunLogger, WandbMirror
from lmexp.training.progress import Progress
from lmexp.training.signals import StopSignals
from lmexp.training.start import usable_cores

LOST_A_RANK = re.compile("gloo|NCCL|Connection (reset|closed)|[Tt]imed out|DistBackendError|DistNetworkError")

SMALLEST_STEP_FLOPS = 1e8
"""Of smaller micro-steps no memory is foretold: it is that of the process, and a simulation takes about a second."""


def train_from_folder(run: RunFolder, corpus: Corpus | None = None) -> None:
    """Train the run in a folder to its end, from its newest checkpoint if it has one; `start` holds its lock.

    Raises:
        LmexpError: as the outcome is; it is also in run.json.
    """
    config = run.config.settled(run.record.get("batch_size"))
    rank = int(os.environ.get("RANK", "0"))
    with _outcome(run, rank) as mirrors:
        corpus = corpus or prepare(config.data, config.tokenizer)
        _require_same_text(run, corpus)
        if config.trainer.num_threads:
            torch.set_num_threads(config.trainer.num_threads)
        elif "OMP_NUM_THREADS" not in os.environ and usable_cores() < torch.get_num_threads():
            torch.set_num_threads(usable_cores())  # of a container's share of the machine torch knows nothing
        max_steps = count_steps(config, corpus)
        _foretell(run, config, corpus, rank)

        seed_everything(config.seed)
        model = build_model(config, corpus.tokenizer, _architecture(run), labels=corpus.labels)
        task: Task = build(config.task, train_config=config, model=model, corpus=corpus, max_steps=max_steps)
        data = TextDataModule(
            config.data,
            corpus,
            seed=config.seed,
            accumulate=config.trainer.accumulate,
            max_steps=max_steps,
            steps_per_stretch=task.steps_per_stretch,
        )
        loggers = _loggers(run, config, rank)
        mirrors += [logger for logger in loggers if isinstance(logger, WandbMirror)]
        with _signals() as signals:
            trainer = _trainer(run, config, task, loggers, signals)
            _train(run, config, trainer, task, data)


def _foretell(run: RunFolder, config: TrainConfig, corpus: Corpus, rank: int) -> None:
    """Note what memory the run will take, and set up malloc for it."""
    resident.forget_peak()
    costs = count(config, corpus, _architecture(run), least_flops=SMALLEST_STEP_FLOPS)
    if config.trainer.accelerator is Accelerator.cpu:
        resident.set_up_malloc(costs.tensors.in_heap if costs.tensors else 0)
    if rank == 0:
        run.update(predicted_memory_bytes=costs.memory and costs.memory.total)


def _train(run: RunFolder, config: TrainConfig, trainer: Trainer, task: Task, data: TextDataModule) -> None:
    checkpoint = checkpoints.newest_intact(run.checkpoints) if run.checkpoints.is_dir() else None
    is_first_rank = trainer.global_rank == 0
    if is_first_rank:
        checkpoints.remove_leftovers(run.checkpoints)
        step = checkpoints.step_of(checkpoint) if checkpoint else 0
        run.cut_back(step)
        run.update(
            step=step,
            max_steps=task.max_steps,
            device=_device_name(trainer),
            world_size=trainer.world_size,
            num_threads=torch.get_num_threads(),
            parameters=task.model.num_parameters(),
            trainable_parameters=num_trainable(task.model),
        )
        _keep_architecture(run, task.model)
    if checkpoint is None:
        _set_first_weights(run, task)
    if config.trainer.compile:
        task.model.compile()
        task.model.head.compile()
    if checkpoint is None and config.begins_with_weights and data.corpus.splits["val"].tokens > 1:
        trainer.validate(task, data, verbose=False)
    trainer.fit(task, data, ckpt_path=str(checkpoint) if checkpoint else None, weights_only=True)
    measured = {key for row in run.metrics if row["step"] == task.steps_done for key in row}
    if "val/loss_nats" not in measured and data.corpus.splits["val"].tokens > 1:
        trainer.validate(task, data, verbose=False)
    if "test/loss_nats" not in measured and data.corpus.splits["test"].tokens > 1:
        trainer.test(task, data, verbose=False)
    if is_first_rank:
        for split in ("val", "test"):
            for name, content in task.files_of(split).items():
                replace_file(run.path / name, content)
        tokens = task.counters.tokens_seen
        speed = {"train/tokens_per_second": tokens / task.stopwatch.total} if task.stopwatch.total else {}
        logged = [row for row in run.metrics if "train/loss_nats" in row][-1:]
        run.update(
            step=task.steps_done,
            tokens=tokens,
            flops=task.flops_per_token * tokens,
            seconds_trained=task.stopwatch.total,
            peak_memory_bytes=resident.peak_bytes(trainer.strategy.root_device),
            metrics=speed | ({"train/loss_nats": logged[0]["train/loss_nats"]} if logged else {}),
        )


def _architecture(run: RunFolder) -> Path | None:
    """Return what says how a pretrained model is built whose weights come from a checkpoint, None where they do not."""
    if checkpoints.listing(run.checkpoints):
        return run.architecture
    source = run.record.get("init_from")
    return RunFolder(Path(source["path"])).architecture if source else None


def _keep_architecture(run: RunFolder, model: LanguageModel) -> None:
    """Write how a pretrained model is built, so that the run does not need the folder it came from."""
    if isinstance(model, Pretrained):
        replace_file(run.architecture, json.dumps(model.architecture, indent=1))


def _set_first_weights(run: RunFolder, task: Task) -> None:
    """Take the weights of the run that this one begins with, or let a new model start at what is known of the text."""
    source = run.record.get("init_from")
    if source is None:
        task.start_head_at_frequencies()
    else:
        checkpoints.start_from(task.model, Path(source["path"]), source["checkpoint"], source["weights"])


def _trainer(run: RunFolder, config: TrainConfig, task: Task, loggers: list[Any], signals: StopSignals) -> Trainer:
    checkpoint_io = FolderCheckpointIO()
    callbacks = build(
        config.callbacks,
        run=run,
        checkpoint_every_steps=config.trainer.checkpoint_every_steps,
        signals=signals,
        checkpoint_io=checkpoint_io,
    )
    if config.trainer.progress_bar:
        callbacks.insert(0, Progress())
    return build(
        config.trainer,
        folder=run.path,
        max_steps=task.max_steps,
        steps_per_stretch=task.steps_per_stretch,
        callbacks=callbacks,
        loggers=loggers,
        checkpoint_io=checkpoint_io,
    )


def _loggers(run: RunFolder, config: TrainConfig, rank: int) -> list[Any]:
    if rank != 0:
        return []
    mirror = build(config.logger, run=run, train_config=config)
    return [RunLogger(run)] + ([mirror] if mirror else [])


def _require_same_text(run: RunFolder, corpus: Corpus) -> None:
    record = run.record
    for key, found in (("data_fingerprint", corpus.fingerprint), ("tokenizer_hash", corpus.tokenizer.hash)):
        if record.get(key) != found:
            what = "text" if key == "data_fingerprint" else "tokenizer"
            raise RunError(
                f"{run.path}: the {what} has changed since the run began ({record.get(key)} then, {found} now)"
            )


def _device_name(trainer: Trainer) -> str:
    device = trainer.strategy.root_device
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


@contextmanager
def _signals() -> Iterator[StopSignals]:
    signals = StopSignals()
    signals.install()
    try:
        yield signals
    finally:
        signals.restore()


@contextmanager
def _outcome(run: RunFolder, rank: int) -> Iterator[list[WandbMirror]]:
    """Write how a run ended to its folder, and close the mirrors with the same exit code."""
    mirrors: list[WandbMirror] = []
    status, error, exit_code = "done", None, 0
    try:
        with run.heartbeat() if rank == 0 else nullcontext(), _quiet_libraries(run):
            yield mirrors
    except Stopped as stopped:
        status, error, exit_code = "stopped", str(stopped), stopped.exit_code
        raise
    except LmexpError as failure:
        status, error, exit_code = "failed", str(failure), failure.exit_code
        raise
    except KeyboardInterrupt:
        status, error, exit_code = "stopped", "stopped at once, without a checkpoint", 130
        raise
    except BaseException as bug:
        status, error, exit_code = "failed", f"{type(bug).__name__}: {bug}", 1
        if int(os.environ.get("WORLD_SIZE", "1")) > 1 and LOST_A_RANK.search(error):
            error, exit_code = f"another rank died or hung: {error.splitlines()[0]}", DistributedError.exit_code
        name = "traceback.txt" if rank == 0 else f"traceback-rank{rank}.txt"
        (run.path / name).write_text(traceback.format_exc(), encoding="utf-8")
        raise
    finally:
        for mirror in mirrors:
            mirror.close(exit_code)
        if rank == 0:
            run.update(status=status, error=error, exit_code=exit_code, ended=now(), heartbeat=now())


@contextmanager
def _quiet_libraries(run: RunFolder) -> Iterator[None]:
    """Send what Lightning and torch say to log.txt: the terminal belongs to the run."""
    handler = logging.FileHandler(run.path / "log.txt", encoding="utf-8", delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s: %(message)s"))
    loggers = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning_fabric", "lightning.pytorch")]
    before = [(logger.handlers, logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.handlers, logger.propagate = [handler], False
    try:
        with warnings.catch_warnings():
            yield
    finally:
        for logger, (handlers, propagate) in zip(loggers, before, strict=True):
            logger.handlers, logger.propagate = handlers, propagate
        handler.close()
