"""Sweeps with real processes: trials that go wrong, drivers that are killed, several at once. Hard time limits."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import benchmarks
from lmexp.runs import RunFolder
from lmexp.sweeps.show import last_step
from tests.training.setups import TINY
from tests.training.test_processes import finish

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
SECONDS = 180
PLUGIN = Path(benchmarks.__file__).with_name("faulty.py")  # not imported: its option would be there for all tests
FAULTY = ["--plugin", str(PLUGIN), "schedule=faulty"]


@pytest.fixture
def common(text_file: Path) -> list[str]:
    return [*TINY, f"data.path={text_file}", "model=transformer_tiny", "optimizer=adamw", "data.test_fraction=0"]


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    folder.mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, "-m", "lmexp", *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def sweep(folder: Path, *overrides: str, code: int = 0) -> tuple[dict[str, Any], str]:
    """Run a sweep to its end and return its record with what was said."""
    found, output = finish(start(folder, "train", "-m", *overrides))
    assert found == code, output
    return record(folder), output


def record(folder: Path) -> dict[str, Any]:
    (path,) = folder.glob("outputs/*/sweeps/*/sweep.json")
    return json.loads(path.read_text())


def runs(folder: Path) -> list[RunFolder]:
    return [RunFolder(path.parent) for path in sorted(folder.glob("outputs/*/*/run.json"))]


def wait_until(condition: Any) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def states(folder: Path) -> list[str]:
    try:
        return [trial["state"] for trial in record(folder)["trials"]]
    except ValueError:  # it is not there yet
        return []


def test_a_trial_that_goes_wrong_ends_alone_and_says_why(tmp_path: Path, common: list[str]) -> None:
    limits = ["sweep.timeout_seconds=12", "sweep.max_memory_gb=1.2"]
    found, output = sweep(tmp_path, *common, *FAULTY, "schedule.trial=3,5,9,13,14", *limits, code=1)
    assert [trial["state"] for trial in found["trials"]] == ["failed"] * 4 + ["done"]
    raised, too_large, crashed, hung, _ = (trial["error"] for trial in found["trials"])
    assert raised == "ArithmeticError: this trial was told to fail"
    assert too_large == "it took more memory than sweep.max_memory_gb=1.2"
    assert "it crashed (SIGSEGV); see outputs/" in crashed
    assert hung == "it took longer than sweep.timeout_seconds=12"
    assert found["best"] == [4]
    assert "4 failed" in output
    assert [run.record["status"] for run in runs(tmp_path)].count("failed") == 4
    log = next(run for run in runs(tmp_path) if "SIGSEGV" in str(run.record["error"])).path / "log.txt"
    assert "go_wrong" in log.read_text()  # where it crashed
    _, output = sweep(tmp_path, *common, *FAULTY, "schedule.trial=3,5,9,13,14", *limits, code=1)
    assert "1 done already; 4 failed, left alone (sweep.retry=true)" in output
    assert "running" not in output


def test_a_driver_that_is_killed_is_taken_up_where_it_was(tmp_path: Path, common: list[str]) -> None:
    longer = ["trainer.max_steps=60", "optimizer.learning_rate=0.01,0.003,0.001", "trainer.checkpoint_every_steps=8"]
    slow = [*FAULTY, "schedule.is_healthy=true", "schedule.seconds_a_step=0.02"]
    process = start(tmp_path, "train", "-m", *common, *longer, *slow)
    wait_until(lambda: states(tmp_path)[:2] == ["done", "running"] and len(runs(tmp_path)) == 2)
    wait_until(lambda: any((runs(tmp_path)[n].checkpoints / "step-000008").exists() for n in (0, 1)))
    process.kill()
    finish(process)
    first = {run.path: (run.path / "run.json").read_bytes() for run in runs(tmp_path) if run.record["status"] == "done"}
    found, output = sweep(tmp_path, *common, *longer, *slow)
    assert "1 done already" in output
    assert [trial["state"] for trial in found["trials"]] == ["done"] * 3
    assert len(runs(tmp_path)) == 3
    assert all((path / "run.json").read_bytes() == content for path, content in first.items())
    undisturbed, _ = sweep(tmp_path / "again", *common, *longer, *slow)
    assert [trial["values"] for trial in found["trials"]] == [trial["values"] for trial in undisturbed["trials"]]


def test_two_drivers_share_the_work(tmp_path: Path, common: list[str]) -> None:
    line = ["train", "-m", *common, "seed=range(0,8)"]
    processes = [start(tmp_path, *line), start(tmp_path, *line)]
    outputs = [finish(process) for process in processes]
    assert [code for code, _ in outputs] == [0, 0], outputs
    assert states(tmp_path) == ["done"] * 8
    assert len(runs(tmp_path)) == 8
    assert all(
        [row["step"] for row in run.metrics if "val/loss_nats" in row] == [3, 6, 9, 12] for run in runs(tmp_path)
    )


def test_wandb_groups_the_runs_of_a_sweep(tmp_path: Path, common: list[str]) -> None:
    found, _ = sweep(tmp_path, *common, "logger=wandb", "seed=1")
    (run,) = runs(tmp_path)
    assert run.config.logger.run_group == found["name"]  # type: ignore[attr-defined]
    assert list((run.path / "wandb").glob("offline-run-*"))


def test_a_search_prunes_and_what_was_pruned_can_be_continued(tmp_path: Path, common: list[str]) -> None:
    space = ["optimizer.learning_rate=tag(log,interval(1e-5,1e-1))", "hydra.sweeper.n_trials=6", *FAULTY]
    slow = ["schedule.is_healthy=true", "schedule.seconds_a_step=0.03", "trainer.max_steps=24"]
    found, _ = sweep(
        tmp_path, *common, *space, *slow, "hydra/sweeper/pruner=asha", "hydra.sweeper.pruner.reduction_factor=2"
    )
    pruned = [trial for trial in found["trials"] if trial["state"] == "pruned"]
    assert pruned
    run = RunFolder(tmp_path / pruned[0]["runs"][0])
    assert run.record["status"] == "stopped"
    assert 0 < run.record["step"] < 24
    assert list(run.checkpoints.iterdir())
    code, output = finish(start(tmp_path, "train", *common, *FAULTY, *slow, *pruned[0]["overrides"]))
    assert code == 0, output
    assert (run.record["status"], run.record["step"]) == ("done", 24)


def test_two_at_once_with_joblib_and_repeats_over_seeds(tmp_path: Path, common: list[str]) -> None:
    joblib = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2", *FAULTY, "schedule.is_healthy=true"]
    space = ["model.hidden_size=16,32", "optimizer.learning_rate=interval(0.001,0.01)", "seed=1,2"]
    aims = ["sweep.metric=val/loss_nats,parameters", "hydra.sweeper.n_trials=4", "hydra/sweeper/sampler=random"]
    found, output = sweep(tmp_path, *common, *joblib, *space, *aims)
    assert "4 trials, 2 at once" in output
    assert [trial["state"] for trial in found["trials"]] == ["done"] * 4
    for trial in found["trials"]:
        both = [RunFolder(tmp_path / run).record for run in trial["runs"]]
        assert [one["seed"] for one in both] == [1, 2]
        assert trial["values"][0] == pytest.approx(sum(one["metrics"]["val/loss_nats"] for one in both) / 2)
        assert trial["values"][1] == both[0]["parameters"]
    assert found["best"]
    assert all(run.record["sweeps"] == [found["name"]] for run in runs(tmp_path))


def test_submitit_runs_workers_through_its_local_executor(tmp_path: Path, common: list[str]) -> None:
    launcher = ["hydra/launcher=submitit_local", "hydra.launcher.timeout_min=3", "sweep.workers=2"]
    found, _ = sweep(tmp_path, *common, *launcher, "seed=1,2,3")
    assert [trial["state"] for trial in found["trials"]] == ["done"] * 3


def test_a_sweep_is_stopped_goes_on_and_is_extended(tmp_path: Path, common: list[str]) -> None:
    slow = [*FAULTY, "schedule.is_healthy=true", "schedule.seconds_a_step=0.1", "trainer.max_steps=40"]
    line = ["train", "-m", *common, *slow, "seed=1,2"]
    process = start(tmp_path, *line)
    wait_until(lambda: states(tmp_path) == ["running", "waiting"] and runs(tmp_path) and runs(tmp_path)[0].metrics)
    name = record(tmp_path)["name"]
    assert finish(start(tmp_path, "sweep", "stop", name))[0] == 0
    code, output = finish(process)
    assert code == 0, output
    assert states(tmp_path) == ["waiting", "waiting"]
    assert runs(tmp_path)[0].record["status"] == "stopped"
    assert finish(start(tmp_path, *line))[0] == 0
    assert states(tmp_path) == ["done", "done"]
    assert finish(start(tmp_path, "sweep", "extend", name, "seed=3"))[0] == 0
    assert states(tmp_path) == ["done"] * 3
    code, output = finish(start(tmp_path, "sweep", "status", name))
    assert code == 0
    assert output.count(" done ") == 3
    code, output = finish(start(tmp_path, "sweep", "extend", name, "model.dropout=0.3"))
    assert (code, "does not vary in this sweep" in output) == (2, True)


def test_ctrl_c_leaves_a_checkpoint_and_the_same_command_goes_on(tmp_path: Path, common: list[str]) -> None:
    slow = [*FAULTY, "schedule.is_healthy=true", "schedule.seconds_a_step=0.05", "trainer.max_steps=40"]
    line = ["train", "-m", *common, *slow, "seed=1,2"]
    process = start(tmp_path, *line)
    wait_until(lambda: runs(tmp_path) and runs(tmp_path)[0].metrics)
    process.send_signal(signal.SIGINT)
    code, output = finish(process)
    assert code == 130, output
    assert "the same command goes on" in output
    assert (states(tmp_path), runs(tmp_path)[0].record["status"]) == (["waiting", "waiting"], "stopped")
    found, _ = sweep(tmp_path, *line[2:])
    assert [trial["state"] for trial in found["trials"]] == ["done", "done"]


@pytest.mark.parametrize("moment", ["as a trial begins", "at its last step"])
def test_a_signal_at_a_bad_moment_loses_nothing(tmp_path: Path, common: list[str], moment: str) -> None:
    line = ["train", "-m", *common, "seed=1,2,3"]
    process = start(tmp_path, *line)
    wait_until(lambda: states(tmp_path)[:2] == ["done", "running"])
    if moment == "at its last step":
        wait_until(lambda: any(run.record["seed"] == 2 and last_step(run) == 12 for run in runs(tmp_path)))
    process.send_signal(signal.SIGTERM)
    code, output = finish(process)
    assert code == 143, output
    assert set(states(tmp_path)) <= {"done", "waiting"}
    found, _ = sweep(tmp_path, *line[2:])
    assert [trial["state"] for trial in found["trials"]] == ["done"] * 3


def test_two_ranks_in_a_sweep_leave_one_folder_a_run(tmp_path: Path, common: list[str]) -> None:
    found, _ = sweep(tmp_path, *common, "trainer=ddp_cpu", "trainer.devices=1,2", "seed=1")
    assert [trial["state"] for trial in found["trials"]] == ["done", "done"]
    assert len({path for trial in found["trials"] for path in trial["runs"]}) == len(runs(tmp_path))
    assert sorted(entry.name for entry in (tmp_path / "outputs/lmexp").iterdir()) == sorted(
        [run.path.name for run in runs(tmp_path)] + ["sweeps"]
    )


SBATCH = """#!/bin/sh
# Runs the tasks of a Slurm array here, as Slurm would on its nodes.
for script; do :; done
cp "$script" "$SLURM_SCRIPTS/submitted.sh"
for task in 0 1; do
  SLURM_JOB_ID=7 SLURM_ARRAY_JOB_ID=7 SLURM_ARRAY_TASK_ID=$task SLURM_JOB_NUM_NODES=1 SLURM_NTASKS=1 SLURM_PROCID=0 \\
  SLURM_LOCALID=0 SLURM_NODEID=0 SLURM_JOB_NODELIST=localhost setsid sh "$script" > "$SLURM_SCRIPTS/$task.log" 2>&1 &
done
echo "Submitted batch job 7"
"""
SRUN = """#!/bin/sh
while [ "${1#-}" != "$1" ]; do case "$1" in --output|--error) shift;; esac; shift; done
exec "$@"
"""
SACCT = """#!/bin/sh
echo "JobID|State|NodeList"
"""


def test_submitit_writes_a_slurm_array_of_workers(
    tmp_path: Path, common: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    for name, text in (("sbatch", SBATCH), ("srun", SRUN), ("sacct", SACCT)):
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_SCRIPTS", str(tmp_path / "bin"))
    launcher = ["hydra/launcher=submitit_slurm", "hydra.launcher.timeout_min=30", "hydra.launcher.array_parallelism=2"]
    found, _ = sweep(tmp_path / "work", *common, *launcher, "seed=1,2,3")
    script = (tmp_path / "bin/submitted.sh").read_text()
    assert "#SBATCH --array=0-1%2" in script
    assert "#SBATCH --time=30" in script
    assert "#SBATCH --signal=USR2@" in script  # submitit puts the worker into the queue again then
    assert [trial["state"] for trial in found["trials"]] == ["done"] * 3
