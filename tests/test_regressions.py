"""Speed does not get lost by accident: what no machine's noise enters is counted and held against a committed limit.

Steps to a loss, calls in Python a step, bytes read a batch. Seconds are compared in benchmarks only. A limit stands a
little over what was counted when it was set; lower it when that falls.
"""

import sys
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest

from lmexp import compose, train
from lmexp.config.data import DataConfig, Order
from lmexp.data.order import training_batches
from lmexp.tasks.base import Task
from lmexp.tokenization import TokenFile
from lmexp.tokenization.token_files import SplitCounts

ON_A_TEXT = [
    "trainer.progress_bar=false",
    "logger=none",
    "callbacks.samples.prompts=[]",
    "tokenizer=characters",
    "data.evaluation_batch_size=64",
]
RECIPES = {
    "transformer_fast": ["experiment=shakespeare_fast"],
    "transformer": ["data=text", "model=transformer", "optimizer=muon", "data.context_length=64"],
    "lstm": ["data=text", "model=lstm_tiny", "optimizer=adamw", "optimizer.learning_rate=1e-2"],
}
STEPS_TO_LOSS = {"transformer_fast": (0.6, 10), "transformer": (0.9, 15), "lstm": (1.8, 35)}
"""The loss in nats and the most steps to it; one character of the text is worth 0.23 nats at best."""


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_needs_no_more_steps_to_a_loss(name: str, folder: Path, text_file: Path) -> None:
    lasts = ["trainer.max_steps=40", "trainer.validate_every_steps=5", f"data.path={text_file}"]
    run = train(compose("train", [*RECIPES[name], *ON_A_TEXT, *lasts]))
    losses = {row["step"]: row["val/loss_nats"] for row in run.metrics if "val/loss_nats" in row}
    loss, most = STEPS_TO_LOSS[name]
    assert min(value for step, value in losses.items() if step <= most) <= loss, losses


CALLS_A_STEP = {"transformer": 1550, "transformer_fast": 1640, "lstm": 1450}
"""In a model of two layers, its backward pass and AdamW: most are torch's and Lightning's own."""
CALLS_BESIDE_A_STEP = 155


@pytest.mark.parametrize("model", ["transformer", "transformer_fast", "lstm"])
def test_a_step_makes_no_more_calls_in_python(
    model: str, folder: Path, text_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, last = 20, 39
    micro_step, optimizer_step = Task._micro_step, Task._optimizer_step
    counts = {"inside": 0, "outside": 0}
    now = ["outside"]

    def count(frame: FrameType, event: str, argument: Any) -> None:
        counts[now[0]] += event in ("call", "c_call")

    def watched(original: Any) -> Any:
        def do(self: Task, *arguments: Any) -> None:
            if self.steps_done == first and not sys.getprofile():
                sys.setprofile(count)
            now[0] = "inside"
            original(self, *arguments)
            now[0] = "outside"
            if self.batches_seen > last and original is optimizer_step:
                sys.setprofile(None)

        return do

    monkeypatch.setattr(Task, "_micro_step", watched(micro_step))
    monkeypatch.setattr(Task, "_optimizer_step", watched(optimizer_step))
    options = ["data=text", f"model={model}", "model.num_layers=2", "optimizer=adamw", f"data.path={text_file}"]
    lasts = [f"trainer.max_steps={last + 1}", "trainer.validate_every_steps=null"]
    lasts += ["data.batch_size=4", "data.context_length=32"]  # calls do not depend on the size
    train(compose("train", [*options, *ON_A_TEXT, *lasts]))
    inside, outside = (counts[where] / (last + 1 - first) for where in ("inside", "outside"))
    assert 100 < inside <= CALLS_A_STEP[model]
    assert 10 < outside <= CALLS_BESIDE_A_STEP


class Counted(np.ndarray):
    """Ids that count the bytes that are taken from them."""

    bytes_read = 0

    def __getitem__(self, key: Any) -> Any:
        taken = np.asarray(self)[key]
        Counted.bytes_read += taken.nbytes
        return taken


@pytest.mark.parametrize("order", Order)
def test_a_batch_reads_its_own_rows_and_no_more(order: Order, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = np.random.default_rng(0).integers(60, size=100_000, dtype=np.uint16).view(Counted)
    file = TokenFile(ids, np.array([0]), SplitCounts(tokens=len(ids), documents=1, bytes=len(ids)))
    batches = training_batches(file, DataConfig(batch_size=12, context_length=64, order=order), seed=1, accumulate=1)
    monkeypatch.setattr(Counted, "bytes_read", 0)
    for k in range(10):
        batches[k]
    assert Counted.bytes_read == 10 * 12 * (64 + 1) * 2
