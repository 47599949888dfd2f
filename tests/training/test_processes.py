"""Real processes: killed at random moments, told to stop, two ranks over gloo. Each has a hard time limit."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from lmexp import compose
from lmexp.checkpoints import load_run
from lmexp.runs import RunFolder, list_runs
from tests.training.setups import KINDS, TINY, outcome

pytestmark = pytest.mark.slow
SECONDS = 240
SHARDED = ["trainer=ddp_cpu", "trainer.strategy=fsdp"]
LONGER = ["trainer.max_steps=300", "trainer.validate_every_steps=42", "trainer.checkpoint_every_steps=6"]


def start(folder: Path, *overrides: str) -> subprocess.Popen[str]:
    """Start `lmexp train` in a process group of its own."""
    folder.mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, "-m", "lmexp", "train", *TINY, *overrides],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Wait for a process within the time limit; nothing of its group is left behind."""
    try:
        output, _ = process.communicate(timeout=SECONDS)
    finally:
        if process.stdout is not None:
            process.stdout.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, output


def train(folder: Path, *overrides: str) -> RunFolder:
    """Train to the end in another process and return the run."""
    code, output = finish(start(folder, *overrides))
    assert code == 0, output
    return list_runs(folder / "outputs")[-1]


def wait_for(condition: object, process: subprocess.Popen[str]) -> None:
    """Wait until a condition holds or the process has ended."""
    end = time.monotonic() + SECONDS
    while not condition() and process.poll() is None and time.monotonic() < end:  # type: ignore[operator]
        time.sleep(0.01)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", ["lstm shuffled", "lstm contiguous", "transformer"])
def test_a_run_killed_again_and_again_ends_as_if_it_had_not_been(kind: str, tmp_path: Path, text_file: Path) -> None:
    overrides = [f"data.path={text_file}", *KINDS[kind], *LONGER]
    expected = outcome(train(tmp_path / "reference", *overrides))
    rng = random.Random(kind)
    for _ in range(4):
        process = start(tmp_path / "killed", *overrides)
        before = newest(tmp_path / "killed")
        wait_for(lambda before=before: newest(tmp_path / "killed") > before, process)
        time.sleep(rng.random() * 0.05)  # four of these must not see the end of the run on a fast machine
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        code, output = finish(process)
        assert code == -signal.SIGKILL, f"the run ended before it was killed: {output}"
    assert outcome(train(tmp_path / "killed", *overrides)) == expected


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_run_told_to_stop_saves_says_so_and_goes_on(number: int, code: int, tmp_path: Path, text_file: Path) -> None:
    overrides = [f"data.path={text_file}", *KINDS["transformer"], *LONGER, "trainer.max_steps=2000"]
    process = start(tmp_path, *overrides)
    wait_for(lambda: newest(tmp_path) > 10, process)
    process.send_signal(number)
    returned, output = finish(process)
    assert returned == code, output
    run = list_runs(tmp_path / "outputs")[0]
    assert run.record["status"] == "stopped"
    assert run.record["exit_code"] == code
    assert f"stopped at step {run.record['step']}; the same command goes on from there" in output
    assert "Traceback" not in output


@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", ["lstm contiguous", "transformer", "transformer with adapters", "encoder, masked"])
def test_two_ranks_see_what_one_rank_sees(kind: str, tmp_path: Path, text_file: Path) -> None:
    overrides = [f"data.path={text_file}", *KINDS[kind], "model.dropout=0", "model.lora.dropout=0"]
    one = train(tmp_path / "one", *overrides)
    two = train(tmp_path / "two", *overrides, "trainer=ddp_cpu")
    assert two.record["world_size"] == 2
    for mine, theirs in zip(losses(one), losses(two), strict=True):
        assert mine == pytest.approx(theirs, abs=1e-5)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", ["transformer", "gpt2, partly frozen", "encoder, masked"])
def test_two_ranks_with_half_the_model_each_see_what_one_rank_sees(kind: str, tmp_path: Path, text_file: Path) -> None:
    overrides = [f"data.path={text_file}", *KINDS[kind], "model.dropout=0", "optimizer=adamw"]
    one = train(tmp_path / "one", *overrides)
    two = train(tmp_path / "two", *overrides, *SHARDED)
    assert two.record["world_size"] == 2
    for mine, theirs in zip(losses(one), losses(two), strict=True):
        assert mine == pytest.approx(theirs, abs=1e-5)
    loaded, expected = (load_run(run.path).model.state_dict() for run in (two, one))
    for name, weight in expected.items():
        torch.testing.assert_close(loaded[name], weight, rtol=0, atol=1e-4)


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("kind", "how"),
    [("lstm contiguous", ["trainer=ddp_cpu"]), ("transformer", ["trainer=ddp_cpu"]), ("transformer", SHARDED)],
    ids=["lstm contiguous", "transformer", "transformer, sharded"],
)
def test_two_ranks_that_were_stopped_go_on_as_if_they_had_not(
    kind: str, how: list[str], tmp_path: Path, text_file: Path
) -> None:
    overrides = [f"data.path={text_file}", *KINDS[kind], *LONGER, *how]
    expected = outcome(train(tmp_path / "reference", *overrides))
    for number, step in ((signal.SIGTERM, 6), (signal.SIGKILL, 60)):
        process = start(tmp_path / "stopped", *overrides)
        wait_for(lambda step=step: newest(tmp_path / "stopped") >= step, process)
        process.send_signal(number)  # a kill of the parent alone: its children must notice and end
        assert process.wait(SECONDS) == (143 if number == signal.SIGTERM else -signal.SIGKILL)
        wait_for_end_of_children(tmp_path / "stopped")
        finish(process)
    assert outcome(train(tmp_path / "stopped", *overrides)) == expected


@pytest.mark.timeout(600)
def test_a_rank_that_dies_ends_the_run_with_code_5(tmp_path: Path, text_file: Path) -> None:
    overrides = [f"data.path={text_file}", *KINDS["transformer"], *LONGER, "trainer.max_steps=5000"]
    process = start(tmp_path, *overrides, "trainer=ddp_cpu", "trainer.distributed_timeout_seconds=20")
    wait_for(lambda: newest(tmp_path) >= 4, process)
    run = list_runs(tmp_path / "outputs")[0]
    rank_1 = next(pid for pid, arguments, rank in processes() if str(run.path.name) in arguments and rank == "1")
    os.kill(rank_1, signal.SIGKILL)
    returned, output = finish(process)
    assert returned == 5, output
    assert run.record["status"] == "failed"


@pytest.mark.timeout(900)
def test_a_sweep_is_one_run_a_trial_and_a_second_time_trains_nothing(tmp_path: Path, text_file: Path) -> None:
    overrides = [f"data.path={text_file}", "trainer.max_steps=2", "-m", "seed=0,1", "model=lstm_tiny,transformer_tiny"]
    code, output = finish(start(tmp_path, *overrides))
    assert code == 0, output
    ended = {run.path: run.record["ended"] for run in list_runs(tmp_path / "outputs")}
    assert len(ended) == 4
    code, output = finish(start(tmp_path, *overrides))
    assert code == 0, output
    assert {run.path: run.record["ended"] for run in list_runs(tmp_path / "outputs")} == ended


@pytest.mark.timeout(900)
def test_a_trial_that_fails_does_not_stop_the_others(tmp_path: Path, text_file: Path) -> None:
    overrides = [f"data.path={text_file}", "trainer.max_steps=20", "model=lstm_tiny", "optimizer=sgd"]
    sweep = ["-m", "optimizer.learning_rate=1e38,0.1", "trainer.gradient_clip_norm=null"]
    code, output = finish(start(tmp_path, *overrides, *sweep))
    assert code == 4, output
    assert sorted(run.record["status"] for run in list_runs(tmp_path / "outputs")) == ["done", "failed"]


@pytest.mark.timeout(600)
def test_starts_at_once_train_once(tmp_path: Path, text_file: Path) -> None:
    overrides = [f"data.path={text_file}", *KINDS["transformer"], "trainer.max_steps=1000"]
    compose("train", [*TINY, *overrides])
    starts = [start(tmp_path, *overrides) for _ in range(4)]
    results = sorted(finish(process) for process in starts)
    assert [code for code, _ in results] == [0, 2, 2, 2], results
    for _, output in results[1:]:
        assert "is being trained by process" in output


def newest(folder: Path) -> int:
    """Return the step of the newest checkpoint below a folder, 0 without one."""
    steps = [int(path.name[5:]) for path in folder.glob("outputs/*/*/checkpoints/step-*") if path.name[5:].isdigit()]
    return max(steps, default=0)


def losses(run: RunFolder) -> list[float]:
    """Return every loss that a run wrote, in order."""
    return [value for row in run.metrics for key, value in row.items() if key.endswith("loss_nats")]


def processes() -> list[tuple[int, str, str]]:
    """Return (pid, command line, rank) of every process."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            arguments = (path / "cmdline").read_text().replace("\0", " ")
            environment = dict(p.partition("=")[::2] for p in (path / "environ").read_text().split("\0"))
        except (OSError, UnicodeDecodeError):
            continue
        found.append((int(path.name), arguments, environment.get("RANK", "")))
    return found


def wait_for_end_of_children(folder: Path) -> None:
    """Wait until no process trains in a folder."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        busy = [pid for pid, arguments, _ in processes() if "lmexp.training" in arguments and works_in(pid, folder)]
        if not busy:
            return
        time.sleep(0.2)
    raise AssertionError(f"processes {busy} outlived the one that started them")


def works_in(pid: int, folder: Path) -> bool:
    """Return whether a process has this working folder."""
    try:
        return Path(f"/proc/{pid}/cwd").resolve() == folder.resolve()
    except OSError:
        return False
