"""Run folders as training leaves them, with numbers of the test's choice."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lmexp.config.compose import compose
from lmexp.runs import RunFolder

MakeRun = Callable[..., RunFolder]


@pytest.fixture(scope="session")
def composed() -> Callable[..., Any]:
    """Return `compose`, with what was composed before."""
    known: dict[tuple[str, ...], Any] = {}

    def composed(*overrides: str) -> Any:
        if overrides not in known:
            known[overrides] = compose("train", list(overrides))
        return known[overrides]

    return composed


@pytest.fixture
def make_run(tmp_path: Path, composed: Callable[..., Any]) -> MakeRun:
    """Return a function that makes a finished run below tmp_path/outputs."""
    count = 0

    def make_run(
        value: float | None, *overrides: str, seed: int = 0, project: str = "p", name: str | None = None, **record: Any
    ) -> RunFolder:
        nonlocal count
        count += 1
        config = composed(f"seed={seed}", "logger=none", *overrides)
        run = RunFolder(tmp_path / "outputs" / project / (name or f"run-{count:04d}"))
        run.create(config)
        known = {
            "id": f"{count:08d}",
            "project": project,
            "name": config.display_name,
            "seed": seed,
            "status": "done",
            "created": f"2026-01-01T{count // 3600:02d}:{count // 60 % 60:02d}:{count % 60:02d}+00:00",
            "data_fingerprint": "d1",
            "tokenizer_hash": "t1",
            "source_hash": "s1",
            "step": 100,
            "tokens": 1000,
        }
        metrics = record.pop("metrics", {} if value is None else {"val/bits_per_byte": value})
        run.update(**known | record, metrics=metrics)
        return run

    return make_run


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    """Return the folder that `make_run` makes runs in."""
    return tmp_path / "outputs"
