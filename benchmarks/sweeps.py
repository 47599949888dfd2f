"""Do sweeps finish, whatever happens, and what do they cost?

python -m benchmarks.sweeps NAME [NAME ...] [--text FILE] [--folder FOLDER]

faults     20 trials of which six go wrong, the driver killed twice: all accounted for, the best as undisturbed?
killed     a TPE study of 12 trials, the driver killed ten times: twelve trials, as undisturbed?
asha       successive halving against the whole grid of 24: how near to its best, with how many of its steps?
between    from the end of a trial to the first step of the next
joblib     two trials at once against one after the other, a thread a trial on both sides
many       200 trials: do the driver's memory and the time between trials grow?
"""

import argparse
import contextlib
import itertools
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.faulty import FAULTS, PLUGIN

TINY = [
    *("data=text", "tokenizer=characters", "model=transformer_tiny", "logger=none", "callbacks.samples.prompts=[]"),
    *("data.batch_size=8", "data.context_length=64", "data.test_fraction=0", "optimizer=adamw"),
    *("trainer.max_steps=60", "trainer.validate_every_steps=20", "optimizer.learning_rate=0.01"),
]
HOUR = 3600.0


def command(text: str, *overrides: str) -> list[str]:
    """Return the command line of a sweep over a text."""
    return [sys.executable, "-m", "lmexp", "train", "-m", "--plugin", PLUGIN, *TINY, f"data.path={text}", *overrides]


def start(line: Sequence[str], folder: Path) -> subprocess.Popen[str]:
    """Start a sweep in a folder, on one thread a trial."""
    folder.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with open(folder / "output.txt", "a", encoding="utf-8") as output:
        return subprocess.Popen(line, cwd=folder, env=environment, stdout=output, stderr=output, text=True)


def run(line: Sequence[str], folder: Path) -> float:
    """Return the seconds that a sweep took."""
    began = time.monotonic()
    start(line, folder).wait(HOUR)
    return time.monotonic() - began


def record(folder: Path) -> dict[str, Any]:
    """Return sweep.json of the one sweep in a folder; {} before it is there."""
    found = list(folder.glob("outputs/*/sweeps/*/sweep.json"))
    return json.loads(found[0].read_text()) if found else {}


def runs_of(folder: Path) -> list[Path]:
    """Return the run folders."""
    return sorted(path.parent for path in folder.glob("outputs/*/*/run.json"))


def done_runs(folder: Path) -> dict[Path, bytes]:
    """Return run.json of every run that is done."""
    content = {run: (run / "run.json").read_bytes() for run in runs_of(folder)}
    return {run: found for run, found in content.items() if json.loads(found)["status"] == "done"}


def kill_at_random(
    line: Sequence[str], folder: Path, times: int, rng: random.Random, seconds: tuple[float, float]
) -> int:
    """Kill the driver again and again, start it again each time, and return how many kills struck."""
    struck = 0
    before: dict[Path, bytes] = {}
    for _ in range(times):
        process = start(line, folder)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(rng.uniform(*seconds))
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            struck += 1
        process.wait()
        time.sleep(2.0)  # its trial ends with it
        now = done_runs(folder)
        again = [run.name for run, content in before.items() if now.get(run) != content]
        assert not again, f"trained again: {again}"
        before = now
    start(line, folder).wait(HOUR)
    again = [run.name for run, content in before.items() if done_runs(folder).get(run) != content]
    assert not again, f"trained again: {again}"
    return struck


def faults(text: str, folder: Path) -> None:
    """Print what became of 20 trials, disturbed and not."""
    overrides = ["schedule=faulty", "schedule.trial=range(0,20)", "sweep.timeout_seconds=15", "sweep.max_memory_gb=1.5"]
    line = command(text, *overrides)
    struck = kill_at_random(line, folder / "killed", 2, random.Random(0), (15.0, 35.0))
    seconds = run(line, folder / "undisturbed")
    killed, undisturbed = record(folder / "killed"), record(folder / "undisturbed")
    states = [trial["state"] for trial in killed["trials"]]
    counts = f"{states.count('done')} done, {states.count('failed')} failed"
    print(f"driver killed {struck} times; {len(states)} trials: {counts}")
    for number, fault in FAULTS.items():
        trial = killed["trials"][number]
        print(f"  trial {number}, told to {fault}: {trial['state']}: {trial['error']}")
    same = [
        one["values"] == other["values"] for one, other in zip(killed["trials"], undisturbed["trials"], strict=True)
    ]
    print(f"values as undisturbed: {sum(same)}/20; best {killed['best']} and {undisturbed['best']}")
    print(f"undisturbed: {seconds:.0f} s")


def killed(text: str, folder: Path) -> None:
    """Print what became of a study whose driver was killed ten times."""
    overrides = ["schedule=faulty", "schedule.is_healthy=true", "hydra.sweeper.n_trials=12", "trainer.max_steps=300"]
    overrides += ["optimizer.learning_rate=tag(log,interval(1e-4,1e-1))", "model.hidden_size=16,32,64"]
    overrides += ["hydra.sweeper.sampler.n_startup_trials=4", "trainer.checkpoint_every_steps=50"]
    line = command(text, *overrides)
    rng = random.Random(0)
    struck = kill_at_random(line, folder / "killed", 10, rng, (6.0, 14.0))
    run(line, folder / "undisturbed")
    one, other = record(folder / "killed"), record(folder / "undisturbed")
    pairs = zip(one["trials"], other["trials"], strict=True)
    same = [a["overrides"] == b["overrides"] and a["values"] == b["values"] for a, b in pairs]
    states = [trial["state"] for trial in one["trials"]]
    counts = f"{len(states)} trials, {states.count('done')} done, {len(runs_of(folder / 'killed'))} folders"
    print(f"driver killed {struck} times; {counts}")
    print(f"as undisturbed: {sum(same)}/12; best {one['best']} and {other['best']}")


def asha(text: str, folder: Path) -> None:
    """Print the best of the grid, and what successive halving finds of it."""
    space = ["model.hidden_size=32,64,96", "optimizer.learning_rate=1e-3,3e-3,1e-2,3e-2", "model.num_layers=1,2"]
    length = ["trainer.max_steps=320", "trainer.validate_every_steps=20", "schedule=constant"]
    run(command(text, *space, *length), folder / "grid")
    grid = record(folder / "grid")
    best = min(trial["values"][0] for trial in grid["trials"])
    steps = sum(_steps(folder / "grid", trial) for trial in grid["trials"])
    print(f"grid of {len(grid['trials'])}: best {best:.4f} bits per byte, {steps} steps")
    for seed in range(5):
        search = ["hydra/sweeper=optuna", "hydra/sweeper/sampler=grid", f"hydra.sweeper.sampler.seed={seed}"]
        search += [
            "hydra/sweeper/pruner=asha",
            "hydra.sweeper.pruner.min_resource=2",
            "hydra.sweeper.n_trials=24",
            "logger=none",
            f"project=seed{seed}",
        ]
        own = folder / f"asha{seed}"
        run(command(text, *space, *length, *search), own)
        found = record(own)
        states = [trial["state"] for trial in found["trials"]]
        value = min(trial["values"][0] for trial in found["trials"] if trial["values"])
        share = sum(_steps(own, trial) for trial in found["trials"]) / steps
        print(
            f"asha, seed {seed}: best {value:.4f} ({value / best - 1:+.2%}), {share:.1%} of the steps; "
            f"{states.count('done')} done, {states.count('pruned')} pruned, {states.count('failed')} failed",
            flush=True,
        )


def _steps(folder: Path, trial: dict[str, Any]) -> int:
    return sum(json.loads((folder / run / "run.json").read_text())["step"] for run in trial["runs"])


def between(text: str, folder: Path) -> None:
    """Print the time from the end of a trial to the first step of the next."""
    gaps = gaps_of(text, folder, 12)
    print(f"between trials: median {statistics.median(gaps):.2f} s, most {max(gaps):.2f} s, {len(gaps)} gaps")


def gaps_of(
    text: str, folder: Path, trials: int, watch: Callable[[subprocess.Popen[str]], None] | None = None
) -> list[float]:
    """Return the seconds between the end of each trial and the first step of the next."""
    clock = folder / "clock.txt"
    overrides = [
        "schedule=faulty",
        "schedule.is_healthy=true",
        f"schedule.clock={clock}",
        f"schedule.trial=range(0,{trials})",
    ]
    process = start(command(text, *overrides, "trainer.max_steps=20", "trainer.validate_every_steps=null"), folder)
    while process.poll() is None:
        if watch is not None:
            watch(process)
        time.sleep(0.2)
    first_steps = sorted(map(float, clock.read_text().split()))
    ends = sorted((run / "run.json").stat().st_mtime for run in runs_of(folder))
    assert len(first_steps) == len(ends) == trials, (len(first_steps), len(ends))
    return [first - end for first, end in zip(first_steps[1:], ends, strict=False)]


def joblib(text: str, folder: Path) -> None:
    """Print how much faster two trials at once are, in turns."""
    length = ["seed=range(0,8)", "trainer.max_steps=600", "trainer.validate_every_steps=200", "trainer.num_threads=1"]
    ratios = []
    for turn in range(3):
        one = run(command(text, *length), folder / f"basic{turn}")
        two = run(command(text, *length, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"), folder / f"joblib{turn}")
        ratios.append(one / two)
        print(f"one after the other {one:.1f} s, two at once {two:.1f} s: {one / two:.2f}x", flush=True)
    print(f"median {statistics.median(ratios):.2f}x")


def many(text: str, folder: Path) -> None:
    """Print the driver's memory and the time between trials along 200 trials, also as a share of the trials' own."""
    memory: list[int] = []

    def watch(process: subprocess.Popen[str]) -> None:
        with contextlib.suppress(OSError, IndexError, ValueError):
            memory.append(int(Path(f"/proc/{process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"))

    gaps = gaps_of(text, folder, 200, watch)
    starts = sorted(map(float, (folder / "clock.txt").read_text().split()))
    whole = [after - before for before, after in itertools.pairwise(starts)]
    for name, part in (("first 50", slice(0, 50)), ("last 50", slice(-50, None))):
        gap, length = statistics.median(gaps[part]), statistics.median(whole[part])
        print(f"{name}: {gap:.2f} s between trials, {gap / length:.2f} of the time from trial to trial")
    tenth = max(1, len(memory) // 10)
    early, late = (max(part) / 1e6 for part in (memory[tenth : 2 * tenth], memory[-tenth:]))
    print(f"driver's memory: {early:.0f} MB in the second tenth, {late:.0f} MB in the last")


def main() -> int:
    """Run the named benchmarks."""
    names: dict[str, Callable[[str, Path], None]] = {
        one.__name__: one for one in (faults, killed, asha, between, joblib, many)
    }
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="+", choices=names)
    parser.add_argument("--text", required=True, help="a text file of some 100,000 characters or more")
    parser.add_argument("--folder", type=Path, help="where the sweeps go; else a folder that is removed")
    options = parser.parse_args()
    for name in options.names:
        folder = (options.folder or Path(tempfile.mkdtemp())) / name
        folder.mkdir(parents=True)
        print(f"-- {name}", flush=True)
        names[name](str(Path(options.text).resolve()), folder)
        if options.folder is None:
            shutil.rmtree(folder.parent)
    return 0


if __name__ == "__main__":
    sys.exit(main())
