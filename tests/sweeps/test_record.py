"""The folder of a sweep: which trials are best, which workers live, and what is said where it is damaged."""

import json
import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from lmexp.errors import ConfigError, RunError
from lmexp.sweeps.drive import begin
from lmexp.sweeps.extend import with_values
from lmexp.sweeps.plan import read_plan
from lmexp.sweeps.record import DONE, FAILED, RUNNING, SweepFolder, best_trials, find_sweep, new_trial, release


def record_of(*values: list[float] | None, directions: tuple[str, ...] = ("lower",)) -> dict[str, Any]:
    trials = [new_trial(number, [f"seed={number}"], []) for number in range(len(values))]
    for trial, found in zip(trials, values, strict=True):
        trial |= {"state": FAILED if found is None else DONE, "values": found}
    return {"directions": list(directions), "trials": trials}


def test_the_best_is_the_lowest_or_the_highest_of_those_that_are_done() -> None:
    assert best_trials(record_of([2.0], None, [1.0], [float("nan")])) == [2]
    assert best_trials(record_of([2.0], [1.0], directions=("higher",))) == [0]
    assert best_trials(record_of(None)) == []


def test_of_several_aims_the_best_are_those_that_no_other_beats() -> None:
    found = record_of([1.0, 9.0], [2.0, 5.0], [3.0, 6.0], [4.0, 1.0], directions=("lower", "lower"))
    assert best_trials(found) == [0, 1, 3]


def _die_as_driver(path: str, ready: Any) -> None:
    with SweepFolder(Path(path)).driver() as name:
        ready.put(name)
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_trial_of_a_killed_worker_is_free_and_that_of_a_living_one_is_not(folder: Path) -> None:
    sweep = SweepFolder(folder)
    ready: Any = multiprocessing.get_context("spawn").SimpleQueue()
    process = multiprocessing.get_context("spawn").Process(target=_die_as_driver, args=(str(folder), ready))
    process.start()
    dead = ready.get()
    process.join(30)
    with sweep.driver() as alive:
        record = record_of([1.0], [1.0])
        for trial, driver in zip(record["trials"], (dead, alive), strict=True):
            trial |= {"state": RUNNING, "driver": driver}
        release(record, sweep)
        assert [trial["state"] for trial in record["trials"]] == ["waiting", "running"]


@pytest.mark.parametrize("content", ["{", "[]", '{"trials": 3}', '{"trials": []}', "\0"])
def test_a_damaged_record_is_named(folder: Path, content: str) -> None:
    (folder / "sweep.json").write_text(content)
    with pytest.raises(RunError, match=r"sweep.json .*its runs are not touched"):
        SweepFolder(folder).record  # noqa: B018


def test_a_sweep_is_found_by_a_part_of_its_name(folder: Path) -> None:
    for name in ("heads", "headless"):
        (folder / "outputs/lmexp/sweeps" / name).mkdir(parents=True)
        (folder / "outputs/lmexp/sweeps" / name / "sweep.json").write_text("{}")
    assert find_sweep("headl", "outputs").name == "headless"
    assert find_sweep("heads", "outputs").name == "heads"
    with pytest.raises(RunError, match="is part of 2 names"):
        find_sweep("head", "outputs")
    with pytest.raises(RunError, match="no sweep is called 'x'"):
        find_sweep("x", "outputs")


def test_a_named_sweep_refuses_another_space_and_may_be_extended(folder: Path) -> None:
    def plan(*overrides: str) -> Any:
        return read_plan([*overrides, "sweep.name=mine"])

    sweep = SweepFolder(folder / "mine")
    first = ["model.dropout=0.1,0.2"]
    begin(sweep, plan(*first), first, [])
    with pytest.raises(ConfigError, match=r"mine is there with another space \(model.dropout\)"):
        begin(sweep, plan("model.dropout=0.1,0.3"), [], [])
    more = ["model.dropout=0.1,0.2,0.3"]
    begin(sweep, plan(*more), more, [], extends=True)
    begin(sweep, plan(*first), first, [])
    assert [trial["overrides"] for trial in sweep.record["trials"]] == [[f"model.dropout=0.{n}"] for n in (1, 2, 3)]
    assert json.loads((sweep.path / "sweep.json").read_text())["command"][2:] == more


def test_a_trial_whose_run_was_deleted_is_run_again(folder: Path) -> None:
    sweep, overrides = SweepFolder(folder / "mine"), ["seed=1,2"]
    begin(sweep, read_plan(overrides), overrides, [])
    with sweep.open() as record:
        (folder / "there").mkdir()
        for trial, run in zip(record["trials"], ("there", "gone"), strict=True):
            trial |= {"state": DONE, "runs": [run], "values": [1.0]}
    begin(sweep, read_plan(overrides), overrides, [])
    assert [trial["state"] for trial in sweep.record["trials"]] == [DONE, "waiting"]


def test_further_values_come_after_those_that_are_there(folder: Path) -> None:
    values = {"seed": ["0", "1"], "model.dropout": ["0.1"]}
    line = ["model=lstm", "seed=range(0,2)", "model.dropout=choice(0.1)"]
    assert with_values(line, "seed=4,5", values) == ["model=lstm", "model.dropout=choice(0.1)", "seed=0,1,4,5"]
    with pytest.raises(ConfigError, match=r"model: does not vary in this sweep, .*; these do: seed, model.dropout"):
        with_values(line, "model=gpt2", values)
