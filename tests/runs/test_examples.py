"""Two groups side by side on the same examples: a difference that pairs show, and what cannot be compared."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lmexp.config import compose
from lmexp.errors import RunError
from lmexp.runs import RunFolder
from lmexp.runs.examples import as_text, compare_examples

COUNT = 400


def made(folder: Path, name: str, hits: np.ndarray, seed: int = 0, **changes: Any) -> RunFolder:
    run = RunFolder(folder / "outputs" / "lmexp" / f"{name}-{seed}")
    config = compose.compose("train", [f"model={name}", f"seed={seed}", "logger=none"])
    run.create(config)
    run.update(id=f"{name}{seed}", status="done", seed=seed, project="lmexp", name=name, metrics={"val/accuracy": 0.5})
    kept = {
        "data_fingerprint": "f" * 16,
        "windows": "examples",
        "created": "2026-01-01T00:00:00",
        "splits": {
            "test": {
                "metrics": {"accuracy": {"value": float(hits.mean())}},
                "examples": {"hit": hits.astype(int).tolist(), "nll_nats": (1 - hits).tolist()},
            }
        },
    } | changes
    run.evaluations.mkdir()
    (run.evaluations / "a.json").write_text(json.dumps(kept))
    return run


@pytest.fixture
def hits() -> np.ndarray:
    return (np.random.default_rng(0).random(COUNT) < 0.7).astype(float)


def better(hits: np.ndarray, count: int = 16) -> np.ndarray:
    more = hits.copy()
    more[np.flatnonzero(hits == 0)[:count]] = 1
    return more


def test_a_difference_on_the_same_examples_is_shown(folder: Path, hits: np.ndarray) -> None:
    made(folder, "lstm", hits)
    made(folder, "transformer", better(hits))
    (row,) = compare_examples()
    assert (row.metric, row.column, row.num_examples) == ("accuracy", "hit", COUNT)
    assert row.value == pytest.approx(16 / COUNT)
    assert (row.num_higher, row.num_lower) == (16, 0)
    assert row.low > 0
    assert row.p < 0.001
    assert "is better: on the same 400 examples of test" in as_text([row])
    (loss,) = compare_examples(metric="test/loss_nats")
    assert loss.value == pytest.approx(-16 / COUNT)
    assert loss.text.startswith("model=transformer")


def test_seeds_of_a_group_are_one_side(folder: Path, hits: np.ndarray) -> None:
    made(folder, "lstm", hits)
    made(folder, "lstm", better(hits), seed=1)
    made(folder, "transformer", hits)
    (row,) = compare_examples()
    assert row.value == pytest.approx(-8 / COUNT)
    made(folder, "gpt2", hits[::-1].copy())
    cannot = compare_examples()[1]
    assert "cannot tell which is better" in cannot.text


def test_what_is_not_on_the_same_examples_is_refused(folder: Path, hits: np.ndarray) -> None:
    made(folder, "lstm", hits)
    with pytest.raises(RunError, match=r"there are 1 \(lstm-0\); measure the others: lmexp evaluate RUN"):
        compare_examples()
    made(folder, "transformer", hits, data_fingerprint="0" * 16)
    with pytest.raises(RunError, match="were not evaluated on the same examples"):
        compare_examples()
    with pytest.raises(RunError, match="no example has one; choose accuracy, loss_nats"):
        compare_examples(metric="test/macro_f1")
    with pytest.raises(RunError, match="an evaluation of the val split"):
        compare_examples(split="val")
