"""What the platform costs over a bare PyTorch loop: the same model, the same batches, the same optimizer and clipping.

    python -m benchmarks.overhead [--steps 300] [--rounds 7] [--clock wall|cpu]

Each round runs, in an order that alternates: a bare loop (A), the same bare loop again (the A/A control), and lmexp
with its run folder, its metrics every 10 steps and its checkpoints. Only the time between the first and the last step
counts on every side; imports, set-up and the first steps do not. Prints milliseconds a step over A, median of rounds.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, Trainer

from lmexp.checkpoints import FolderCheckpointIO
from lmexp.config import TrainConfig, build
from lmexp.config.compose import compose
from lmexp.data.batches import training_batches
from lmexp.data.corpus import Corpus, prepare
from lmexp.data.datamodule import TextDataModule
from lmexp.models.adapters import build_model
from lmexp.models.state import LanguageModel
from lmexp.runs import RunFolder
from lmexp.tasks.base import seed_everything
from lmexp.training.loggers import RunLogger
from lmexp.training.progress import Progress
from lmexp.training.signals import StopSignals

WARMUP_STEPS = 20
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
clock: Callable[[], float] = time.perf_counter


def bare_loop(config: TrainConfig, corpus: Corpus, steps: int) -> float:
    """Return the milliseconds of a step in a loop of nothing but PyTorch."""
    model = _model(config, corpus)
    optimizer = build(config.optimizer, model=model)
    batches = training_batches(corpus.open("train"), config.data, seed=config.seed, accumulate=1)
    start = 0.0
    for k in range(WARMUP_STEPS + steps):
        if k == WARMUP_STEPS:
            start = clock()
        batch = batches[k]
        hidden, _ = model(batch["tokens_BT"])
        loss = model.head.nll_sum(hidden, batch["targets_BT"]) / batch["targets_BT"].numel()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return (clock() - start) / steps * 1000


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
            self.start = clock()

    def on_train_batch_end(self, *_: object) -> None:
        self.seconds = clock() - self.start


def _model(config: TrainConfig, corpus: Corpus) -> LanguageModel:
    seed_everything(config.seed)
    return build_model(config, corpus.tokenizer).train()


def main() -> None:
    """Run the rounds and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="cpu repeats better on a busy machine")
    arguments = parser.parse_args()
    global clock
    clock = CLOCKS[arguments.clock]
    torch.set_num_threads(arguments.threads)
    config = compose(
        "train",
        [
            "model=transformer_tiny",
            "tokenizer=bytes",
            "optimizer=adamw",
            "data.batch_size=4",
            "data.context_length=32",
            "trainer.validate_every_steps=null",
            "callbacks.samples.prompts=[]",
            "logger=none",
        ],
    )
    corpus = prepare(config.data, config.tokenizer)
    sides: dict[str, Callable[[], float]] = {
        "bare": lambda: bare_loop(config, corpus, arguments.steps),
        "bare again": lambda: bare_loop(config, corpus, arguments.steps),
        "lmexp": lambda: platform(config, corpus, arguments.steps),
    }
    times: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(arguments.rounds):
        for name in list(sides) if number % 2 == 0 else list(reversed(sides)):
            times[name].append(sides[name]())
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, value in medians.items():
        extra = value - medians["bare"]
        low, high = min(times[name]), max(times[name])
        print(f"{name:<12} {value:7.3f} ms a step  [{low:.3f}, {high:.3f}]   over bare {extra:+.3f} ms")
    print(json.dumps({"medians_ms": medians, "rounds": arguments.rounds, "steps": arguments.steps, "times_ms": times}))


if __name__ == "__main__":
    main()
