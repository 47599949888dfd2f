"""W&B mirrors a run, and failing at any moment it neither stops nor slows it."""

import threading
import time
from pathlib import Path

import pytest
import wandb

from lmexp import train
from lmexp.training import loggers
from tests.training.setups import outcome, tiny


def test_offline_runs_leave_a_wandb_folder_and_end_well(folder: Path, text_file: Path) -> None:
    run = train(tiny(text_file, "model=lstm_tiny", "logger=wandb"))
    files = list(run.path.glob("wandb/offline-run-*/*.wandb"))
    assert len(files) == 1
    assert run.record["id"] in files[0].name
    assert not (run.path / "log.txt").exists() or "W&B" not in (run.path / "log.txt").read_text()


@pytest.mark.parametrize("moment", ["init", "log", "finish"])
def test_a_wandb_that_raises_changes_nothing(
    moment: str, folder: Path, text_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without = outcome(train(tiny(text_file, "model=lstm_tiny", "output_dir=without")))

    def fail(*_: object, **__: object) -> None:
        raise ConnectionResetError("the helper process died")

    owner = wandb if moment == "init" else wandb.sdk.wandb_run.Run
    monkeypatch.setattr(owner, moment, fail)
    run = train(tiny(text_file, "model=lstm_tiny", "logger=wandb"))
    assert outcome(run) == without
    assert "W&B stopped: ConnectionResetError: the helper process died" in (run.path / "log.txt").read_text()


def test_a_wandb_that_hangs_costs_its_time_limit_only(
    folder: Path, text_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()
    monkeypatch.setattr(wandb, "init", lambda **_: release.wait(60))
    monkeypatch.setattr(loggers, "FINISH_SECONDS", 1.0)
    start = time.monotonic()
    run = train(tiny(text_file, "model=lstm_tiny", "logger=wandb"))
    release.set()
    assert run.record["status"] == "done"
    assert time.monotonic() - start < 40
    assert "W&B did not finish in 1 seconds" in (run.path / "log.txt").read_text()


def test_the_mode_comes_from_the_config_then_the_environment_then_dot_env(
    folder: Path, text_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict] = []

    def remember(**arguments: object) -> None:
        seen.append(arguments)
        raise ConnectionError

    monkeypatch.setattr(wandb, "init", remember)
    monkeypatch.delenv("WANDB_MODE")
    train(tiny(text_file, "model=lstm_tiny", "logger=wandb", "seed=1"))
    (folder / ".env").write_text("WANDB_MODE=online\nWANDB_PROJECT=other\n")
    train(tiny(text_file, "model=lstm_tiny", "logger=wandb", "seed=2"))
    train(tiny(text_file, "model=lstm_tiny", "logger=wandb", "logger.mode=disabled", "seed=3"))
    assert [arguments["mode"] for arguments in seen] == ["offline", "online", "disabled"]
    assert [arguments["project"] for arguments in seen] == ["lmexp", "other", "other"]
    assert seen[0]["group"] == seen[1]["group"]
    assert seen[0]["config"]["model"]["name"] == "lstm"


def test_tensorboard_writes_to_the_run_folder(folder: Path, text_file: Path) -> None:
    run = train(tiny(text_file, "model=lstm_tiny", "logger=tensorboard"))
    assert list(run.path.glob("tensorboard/events.out.*"))
