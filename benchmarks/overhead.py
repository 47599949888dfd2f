"""What the platform costs over a bare PyTorch loop: the same model, the same batches, the same optimizer and clipping.

lmexp runs with its run folder, its metrics every 10 steps and its checkpoints. Only the time between the first step
after the warm-up and the last counts on both sides; imports, set-up and the first steps do not.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, Trainer

from benchmarks.measure import AGAIN, OURS, Benchmark, Goal, Quantities
from lmexp.checkpoints import FolderCheckpointIO
from lmexp.config import TrainConfig, build
from lmexp.config.compose import compose
from lmexp.data.corpus import Corpus, prepare
from lmexp.data.datamodule import TextDataModule
from lmexp.data.order import training_batches
from lmexp.models.adapters import build_model
from lmexp.models.state import LanguageModel
from lmexp.runs import RunFolder
from lmexp.tasks.base import seed_everything
from lmexp.training.loggers import RunLogger
from lmexp.training.progress import Progress
from lmexp.training.signals import StopSignals

WARMUP_STEPS = 20
BARE = "a bare loop"
QUIET = [
    "tokenizer=bytes",
    "optimizer=adamw",
    "trainer.validate_every_steps=null",
    "callbacks.samples.prompts=[]",
    "logger=none",
]
SMALL = ["model=transformer_tiny", "data.batch_size=4", "data.context_length=32"]
"""Some 4 ms a step, where a constant cost shows."""
MEDIUM = ["model=transformer", "data.batch_size=8", "data.context_length=64"]
"""Some 30 ms a step."""


@contextmanager
def of_small_steps(*, threads: int) -> Iterator[Benchmark]:
    """The platform's milliseconds on steps of a few."""
    yield _benchmark(SMALL, steps=300, threads=threads, goal=Goal(BARE, "step_milliseconds", -0.3, is_difference=True))


@contextmanager
def of_medium_steps(*, threads: int) -> Iterator[Benchmark]:
    """The platform's share of steps of some 30 ms."""
    yield _benchmark(MEDIUM, steps=100, threads=threads, goal=Goal(BARE, "step_milliseconds", 1 / 1.01))


def _benchmark(overrides: list[str], *, steps: int, threads: int, goal: Goal) -> Benchmark:
    config = compose("train", [*overrides, *QUIET])
    corpus = prepare(config.data, config.tokenizer)

    def side(run: Callable[[TrainConfig, Corpus, int], float]) -> Callable[[int], Quantities]:
        def measured(round_number: int) -> Quantities:
            torch.set_num_threads(threads)
            return {"step_milliseconds": run(config, corpus, steps)}

        return measured

    return Benchmark(
        counts=f"{steps} optimizer steps after {WARMUP_STEPS} that do not count; no imports, no set-up, no evaluation",
        sides={OURS: side(platform), BARE: side(bare_loop), AGAIN: side(platform)},
        rounds=7,
        warmups=1,
        goals=[goal],
    )


def bare_loop(config: TrainConfig, corpus: Corpus, steps: int) -> float:
    """Return the milliseconds of a step in a loop of nothing but PyTorch."""
    model = _model(config, corpus)
    optimizer = build(config.optimizer, model=model)
    batches = training_batches(corpus.open("train"), config.data, seed=config.seed, accumulate=1)
    start = 0.0
    for k in range(WARMUP_STEPS + steps):
        if k == WARMUP_STEPS:
            start = time.perf_counter()
        batch = batches[k]
        hidden, _ = model(batch["tokens_BT"])
        loss = model.head.nll_sum(hidden, batch["targets_BT"]) / batch["targets_BT"].numel()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return (time.perf_counter() - start) / steps * 1000


def platform(config: TrainConfig, corpus: Corpus, steps: int) -> float:
    """Return the milliseconds of a step through lmexp, as `lmexp train` sets it up."""
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder(Path(folder) / "run")
        run.create(config)
        total = WARMUP_STEPS + steps
        task = build(config.task, train_config=config, model=_model(config, corpus), corpus=corpus, max_steps=total)
        stopwatch = Clock()
        checkpoint_io = FolderCheckpointIO()
        callbacks = build(
            config.callbacks,
            run=run,
            checkpoint_every_steps=config.trainer.checkpoint_every_steps,
            signals=StopSignals(),
            checkpoint_io=checkpoint_io,
        )
        trainer: Trainer = build(
            config.trainer,
            folder=run.path,
            max_steps=total,
            steps_per_stretch=task.steps_per_stretch,
            callbacks=[Progress(), *callbacks, stopwatch],
            loggers=[RunLogger(run)],
            checkpoint_io=checkpoint_io,
        )
        data = TextDataModule(
            config.data,
            corpus,
            seed=config.seed,
            accumulate=1,
            max_steps=total,
            steps_per_stretch=task.steps_per_stretch,
        )
        with run.heartbeat():
            trainer.fit(task, data, weights_only=True)
        return stopwatch.seconds / steps * 1000


class Clock(Callback):
    """Seconds between the first step after the warm-up and the last."""

    def __init__(self) -> None:
        self.start = self.seconds = 0.0

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: object, batch_idx: int) -> None:
        if pl_module.steps_done == WARMUP_STEPS:
            self.start = time.perf_counter()

    def on_train_batch_end(self, *_: object) -> None:
        self.seconds = time.perf_counter() - self.start


def _model(config: TrainConfig, corpus: Corpus) -> LanguageModel:
    seed_everything(config.seed)
    return build_model(config, corpus.tokenizer).train()
