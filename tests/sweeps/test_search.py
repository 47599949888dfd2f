"""Optuna behind a sweep: a search that was cut off goes on as if it had not been, and a torn journal is read."""

import fcntl
from pathlib import Path
from typing import Any

import pytest

from lmexp.errors import RunError, StorageError
from lmexp.sweeps.drive import begin
from lmexp.sweeps.plan import read_plan
from lmexp.sweeps.record import DONE, FAILED, PRUNED, SweepFolder, new_trial
from lmexp.sweeps.search import Study, importances

SPACE = [
    "optimizer.learning_rate=tag(log,interval(1e-4,1e-1))",
    "model.num_layers=range(1,4)",
    "model=lstm,transformer",
]


def study_in(folder: Path, *overrides: str) -> tuple[Study, dict[str, Any], SweepFolder]:
    sweep = SweepFolder(folder)
    record = begin(sweep, read_plan([*SPACE, *overrides]), [], [])
    return Study(sweep, record), record, sweep


def search(study: Study, count: int, first: int = 0) -> list[list[str]]:
    """Ask, and tell a value that grows with the learning rate."""
    asked = []
    for number in range(first, count):
        found, overrides = study.ask(number)
        study.tell(found, DONE, [float(overrides[0].split("=")[1])])
        asked.append(overrides)
    return asked


@pytest.mark.parametrize("sampler", ["tpe", "random", "cmaes"])
def test_a_search_in_two_parts_asks_the_same_as_one_in_one(folder: Path, sampler: str) -> None:
    options = [f"hydra/sweeper/sampler={sampler}", "hydra.sweeper.sampler.seed=3"]
    study, _, _ = study_in(folder / "one", *options)
    whole = search(study, 14)
    study, record, sweep = study_in(folder / "two", *options)
    parts = search(study, 6)
    parts += search(Study(sweep, record), 14, first=6)
    assert whole == parts
    assert len({tuple(trial) for trial in whole}) == 14


def test_a_grid_is_gone_through_once_in_an_order_of_the_seed(folder: Path) -> None:
    space = ["model.num_layers=1,2,3", "model.hidden_size=range(16,65,16)", "hydra/sweeper=optuna"]
    orders: list[list[tuple[str, ...]]] = []
    for seed in (0, 1):
        options = [*space, "hydra/sweeper/sampler=grid", f"hydra.sweeper.sampler.seed={seed}"]
        sweep = SweepFolder(folder / str(seed))
        study = Study(sweep, begin(sweep, read_plan(options), [], []))
        orders.append([])
        for number in range(12):
            found, overrides = study.ask(number)
            study.tell(found, DONE, [1.0])
            orders[-1].append(tuple(overrides))
    assert len(set(orders[0])) == len(set(orders[1])) == 12
    assert set(orders[0]) == set(orders[1])
    assert orders[0] != orders[1]


def test_asha_ends_what_is_worse_at_the_same_validation(folder: Path) -> None:
    study, _, _ = study_in(folder, "hydra/sweeper/pruner=asha", "hydra.sweeper.pruner.reduction_factor=2")
    good, bad = study.ask(0)[0], study.ask(1)[0]
    assert not any(study.should_prune(good, step, 1.0 / step) for step in (1, 2, 3, 4))
    assert study.should_prune(bad, 1, 9.0)
    study.tell(bad, PRUNED, None)
    study.tell(bad, PRUNED, None)  # a worker that was killed between telling and writing tells again


@pytest.mark.parametrize("pruner", ["median", "hyperband", "asha"])
def test_every_pruner_ends_a_hopeless_trial_and_no_good_one(folder: Path, pruner: str) -> None:
    study, _, _ = study_in(folder, f"hydra/sweeper/pruner={pruner}")
    ended = []
    for number in range(12):
        found, _ = study.ask(number)
        value = 9.0 if number > 7 else 1.0 - 0.01 * number
        is_ended = any(study.should_prune(found, step, value) for step in range(1, 10))
        study.tell(found, PRUNED if is_ended else DONE, [value])
        ended.append(is_ended)
    assert ended[:8] == [False] * 8
    assert any(ended[8:])


def test_a_journal_that_somebody_holds_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lmexp.sweeps.record.SECONDS_TO_LOCK", 0.1)
    _, record, sweep = study_in(folder)
    with open(sweep.journal.with_suffix(".lock"), "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(StorageError, match=r"journal.lock is locked by a process that does not let go"):
            Study(sweep, record)


def test_a_failed_trial_is_tried_again_with_its_values(folder: Path) -> None:
    study, _, _ = study_in(folder)
    number, overrides = study.ask(0)
    study.tell(number, FAILED, None)
    again = study.ask_again(new_trial(0, overrides, [], study=number))
    assert again != number
    params = [study.study.trials[one].params for one in (number, again)]
    assert params[0] == params[1]


def test_a_line_that_a_crash_cut_off_is_taken_away(folder: Path) -> None:
    study, record, sweep = study_in(folder)
    search(study, 3)
    with open(sweep.journal, "a", encoding="utf-8") as file:
        file.write('{"op_code": 4, "wor')
    study = Study(sweep, record)
    search(study, 5, first=3)
    assert len(Study(sweep, record).study.trials) == 5


def test_a_damaged_journal_is_named(folder: Path) -> None:
    _, record, sweep = study_in(folder)
    sweep.journal.write_text("not a journal\nat all\n")
    with pytest.raises(RunError, match=r"journal.log is damaged .*its runs are not touched"):
        Study(sweep, record)


def test_a_trial_that_was_asked_for_and_not_written_down_is_ended(folder: Path) -> None:
    study, record, _ = study_in(folder)
    study.ask(0)
    study.forget_unknown(record)
    assert [trial.state.name for trial in study.study.trials] == ["FAIL"]


def test_the_key_that_decides_is_the_most_important(folder: Path) -> None:
    _, record, _ = study_in(folder)
    for number in range(12):
        rate, layers, model = 1e-4 * 1.7**number, number % 3 + 1, ("lstm", "transformer")[number % 2]
        overrides = [f"optimizer.learning_rate={rate}", f"model.num_layers={layers}", f"model={model}"]
        record["trials"].append(new_trial(number, overrides, []) | {"state": DONE, "values": [float(layers)]})
    found = importances(record)
    assert next(iter(found)) == "model.num_layers"
    assert found["model.num_layers"] > 0.8
    assert sum(found.values()) == pytest.approx(1.0)
