"""Training does not change by accident: 20 steps of each model equal a committed file.

Rewrite the files with `LMEXP_UPDATE_GOLDEN=1 pytest tests/test_golden.py`, and say why in CHANGELOG.md.
"""

import json
import os
from pathlib import Path

import pytest

from lmexp import compose, train

GOLDEN = Path(__file__).parent / "golden" / "losses"
ADAMW = ["optimizer=adamw", "schedule=wsd"]
RUNS = {
    "lstm": [*ADAMW, "model=lstm_tiny", "model.hidden_size=32", "data.order=contiguous"],
    "lstm_article": [
        "schedule=wsd",
        "model=lstm_article",
        "model.hidden_size=32",
        "optimizer=sgd",
        "optimizer.learning_rate=1",
    ],
    "transformer": [
        *ADAMW,
        "model=transformer_tiny",
        "model.hidden_size=32",
        "tokenizer=bpe",
        "tokenizer.vocab_size=300",
    ],
    "transformer_muon": ["model=transformer_tiny", "model.hidden_size=32", "optimizer=muon"],
    "transformer_fast": ["model=transformer_fast", "model.hidden_size=32", "model.num_layers=2", "optimizer=muon"],
    "gpt2": [
        "optimizer=adamw",
        "model=gpt2",
        "model.hidden_size=32",
        "model.num_layers=2",
        "schedule=cosine",
        "data.segments=true",
    ],
    "encoder_masked": ["optimizer=muon", "model=encoder", "model.hidden_size=32", "model.num_layers=2", "task=masked"],
    "bert_whole_words": [
        *ADAMW,
        "model=bert",
        "model.hidden_size=32",
        "model.num_layers=2",
        "task=masked",
        "task.whole_words=true",
        "data.segments=true",
        "tokenizer=bpe",
        "tokenizer.vocab_size=300",
    ],
    "sft": [
        *ADAMW,
        "model=transformer_tiny",
        "model.hidden_size=32",
        "data=chat",
        "task=sft",
        "data.context_length=96",
    ],
    "sft_lstm": [
        *ADAMW,
        "model=lstm_tiny",
        "model.hidden_size=32",
        "data=chat",
        "task=sft",
        "data.template=llama",
        "data.context_length=96",
    ],
    "classify_lstm": [
        *ADAMW,
        "model=lstm_tiny",
        "model.hidden_size=32",
        "data=labelled",
        "task=classify",
        "task.pooling=max",
        "data.context_length=64",
    ],
    "classify_encoder": [
        "optimizer=muon",
        "model=encoder",
        "model.hidden_size=32",
        "model.num_layers=2",
        "data=labelled",
        "task=classify",
        "task.pooling=attention",
        "task.balanced=true",
        "data.context_length=64",
    ],
    "seq2seq": [
        "optimizer=muon",
        "model=encoder_decoder",
        "model.hidden_size=32",
        "model.num_layers=2",
        "data=pairs",
        "task=seq2seq",
        "data.batch_tokens=256",
        "data.context_length=64",
    ],
    "seq2seq_lstm": [
        *ADAMW,
        "model=lstm_attention",
        "model.hidden_size=32",
        "model.num_layers=1",
        "data=pairs",
        "task=seq2seq",
        "data.batch_tokens=null",
        "data.context_length=64",
    ],
    "preference": [
        *ADAMW,
        "model=transformer_tiny",
        "model.hidden_size=32",
        "data=preferences",
        "task=preference",
        "data.template=plain",
        "data.context_length=128",
    ],
}
COMMON = [
    "data=text",
    "tokenizer=characters",
    "data.batch_size=4",
    "data.context_length=32",
    "data.evaluation_batch_size=64",
    "optimizer.weight_decay=0.1",
    "schedule.warmup_fraction=0.1",
    "trainer.max_steps=20",
    "trainer.validate_every_steps=10",
    "trainer.log_every_steps=1",
    "trainer.progress_bar=false",
    "callbacks=none",
    "logger=none",
]


def data_of(overrides: list[str], folder: Path, text_file: Path) -> list[str]:
    """Return the text of a run, or conversations that are made of it."""
    if not any(option.startswith("data=") for option in overrides):
        return [f"data.path={text_file}", "data.documents=line"]
    lines = text_file.read_text(encoding="utf-8").splitlines()
    pairs = list(zip(lines[::2], lines[1::2], strict=False))
    rows = [
        {
            "prompt": a[:9],
            "completion": b,
            "chosen": b[:7],
            "rejected": b[:20],
            "text": b,
            "label": "short" if len(b) < 40 else "long",
        }
        for a, b in pairs
    ]
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return ["data.path=rows.jsonl"]


@pytest.mark.parametrize("name", RUNS)
def test_twenty_steps_equal_the_golden_losses(name: str, folder: Path, text_file: Path) -> None:
    run = train(compose("train", [*COMMON, *RUNS[name], *data_of(RUNS[name], folder, text_file)]))
    lines = [
        f"{row['step']:>3} {key} {value:.6f}" for row in run.metrics for key, value in row.items() if "loss_nats" in key
    ]
    logged = {key for row in run.metrics for key in row if key.startswith("val/")}
    assert logged == set(run.config.task.metric_names)  # what a sweep may choose by
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("LMEXP_UPDATE_GOLDEN"):
        path.write_text("\n".join(lines) + "\n")
    expected = [line.split() for line in path.read_text().splitlines()]
    actual = [line.split() for line in lines]
    assert [line[:2] for line in actual] == [line[:2] for line in expected]
    for (step, key, value), (_, _, wanted) in zip(actual, expected, strict=True):
        assert float(value) == pytest.approx(float(wanted), abs=1e-5), f"{key} at step {step}"
