"""Small runs for the tests of training: seconds each, with everything on that makes a resume hard."""

import hashlib
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from lmexp import checkpoints, compose
from lmexp.config import TrainConfig
from lmexp.runs import RunFolder
from lmexp.tasks.base import Task

TINY = [
    "data=text",
    "tokenizer=characters",
    "data.batch_size=4",
    "data.context_length=16",
    "data.evaluation_batch_size=64",
    "logger=none",
    "trainer.max_steps=12",
    "trainer.validate_every_steps=3",
    "trainer.checkpoint_every_steps=4",
    "trainer.log_every_steps=5",
    "trainer.accumulate=2",
    "trainer.progress_bar=false",
    "callbacks.samples.prompts=[the]",
    "callbacks.samples.max_tokens=8",
    "model.hidden_size=16",
    "model.dropout=0.2",
]

KINDS = {
    "lstm shuffled": ["model=lstm_tiny", "optimizer=adamw"],
    "lstm contiguous": ["model=lstm_tiny", "model.num_layers=2", "data.order=contiguous", "optimizer=adamw"],
    "lstm contiguous by document": [
        "model=lstm_tiny",
        "data.order=contiguous",
        "data.documents=line",
        "data.segments=true",
        "optimizer=adamw",
    ],
    "transformer": ["model=transformer_tiny", "optimizer=adamw", "schedule=wsd"],
    "transformer with muon": ["model=transformer_tiny", "optimizer=muon"],
    "transformer_fast with muon": ["model=transformer_fast", "model.num_heads=2", "optimizer=muon"],
    "transformer in stretches of four steps": [
        "model=transformer_tiny",
        "optimizer=adamw",
        "trainer.validate_every_steps=4",
        "trainer.max_steps=11",
    ],
    "transformer with adapters": [
        "model=transformer_tiny",
        "optimizer=adamw",
        "model.lora.rank=2",
        "model.lora.dropout=0.2",
        "model.lora.targets=[query,down]",
    ],
    "gpt2, partly frozen": ["model=gpt2", "optimizer=muon", "model.frozen=[embedding.*,blocks.0.*]"],
    "gpt2 with a moving average": ["model=gpt2", "optimizer=adamw", "callbacks=ema", "callbacks.ema_decay=0.9"],
    "lstm that tells labels": [
        *("data=labelled", "data.path=labels.tsv", "data.context_length=16", "data.batch_size=4"),
        *("data.evaluation_batch_size=64", "model=lstm_tiny", "task=classify", "optimizer=adamw"),
    ],
    "encoder_decoder": [
        *("data=pairs", "data.path=pairs.tsv", "data.context_length=16", "data.batch_tokens=64"),
        *("model=encoder_decoder", "task=seq2seq", "task.num_written=3", "task.num_beams=2", "optimizer=muon"),
    ],
    "lstm_attention": [
        *("data=pairs", "data.path=pairs.tsv", "data.context_length=16", "data.batch_tokens=null", "data.batch_size=4"),
        *("model=lstm_attention", "task=seq2seq", "task.metrics=[]", "optimizer=adamw"),
    ],
    "encoder, masked": ["model=encoder", "model.num_layers=2", "task=masked", "optimizer=muon"],
}


def tiny(text_file: Path, *more: str) -> TrainConfig:
    """Return the config of a small run."""
    write_rows(text_file)
    return compose("train", [*TINY, f"data.path={text_file}", *more])


def write_rows(text_file: Path) -> None:
    """Write some lines of a text as labels.tsv and pairs.tsv into the working folder."""
    lines = text_file.read_text(encoding="utf-8").splitlines()[:300]
    Path("labels.tsv").write_text("\n".join(f"{line[:30]}\t{'short' if len(line) < 40 else 'long'}" for line in lines))
    Path("pairs.tsv").write_text("\n".join(f"{line[:12]}\t{line[9::-1]}" for line in lines))


def stop_at(monkeypatch: pytest.MonkeyPatch, micro_step: int, how: int | Exception = signal.SIGTERM) -> None:
    """Send this process a signal, or raise an error, when a micro-step of the next run is over."""
    do = Task._micro_step

    def do_and_stop(self: Task, batch: Any) -> None:
        do(self, batch)
        if self.batches_seen == micro_step:
            monkeypatch.setattr(Task, "_micro_step", do)
            if isinstance(how, Exception):
                raise how
            os.kill(os.getpid(), how)

    monkeypatch.setattr(Task, "_micro_step", do_and_stop)


def outcome(run: RunFolder) -> dict[str, Any]:
    """Return all of a run that must be the same bit by bit: weights, optimizer, counters, metrics, samples."""
    folder = checkpoints.listing(run.checkpoints)[-1]
    state = torch.load(folder / checkpoints.STATE, weights_only=True)
    state["lmexp"].pop("seconds")
    return {
        "step": checkpoints.step_of(folder),
        "weights": checkpoints.read_meta(folder)["files"][checkpoints.WEIGHTS]["sha256"],
        "optimizer": digest(state["optimizer_states"]),
        "counters": digest(state["lmexp"]),
        "metrics": [{k: v for k, v in row.items() if "per_second" not in k} for row in run.metrics],
        "samples": run.samples,
        "best": run.record["best_checkpoint"],
        "result": {k: v for k, v in run.record["metrics"].items() if "per_second" not in k},
    }


def digest(value: Any) -> str:
    """Return a hash of nested values, tensors by their bytes."""
    if isinstance(value, torch.Tensor):
        return hashlib.sha256(value.contiguous().numpy().tobytes()).hexdigest() + str(value.dtype)
    if isinstance(value, dict):
        return json.dumps({str(key): digest(part) for key, part in value.items()}, sort_keys=True)
    if isinstance(value, list | tuple):
        return json.dumps([digest(part) for part in value])
    return repr(value)
