"""What a command line asks for is read as Hydra reads it, and all that is wrong is said before any trial."""

from pathlib import Path

import pytest

from lmexp.cli import app
from lmexp.errors import ConfigError
from lmexp.sweeps.plan import applicable, read_plan

SEARCH = "optimizer.learning_rate=tag(log,interval(1e-4,1e-2))"


def trials(*overrides: str) -> list[list[str]]:
    return read_plan(overrides).grid()


def test_a_grid_is_every_combination_in_hydras_order(folder: Path) -> None:
    assert trials("seed=1,2", "model=lstm,transformer", "optimizer=adamw") == [
        ["seed=1", "model=lstm"],
        ["seed=1", "model=transformer"],
        ["seed=2", "model=lstm"],
        ["seed=2", "model=transformer"],
    ]


def test_of_a_key_that_comes_twice_the_last_one_counts(folder: Path) -> None:
    plan = read_plan(["seed=1,2", "model.dropout=0.1", "trainer.max_steps=20", "trainer.max_steps=100", "seed=3"])
    assert (plan.grid(), plan.fixed) == ([[]], ("seed=3", "model.dropout=0.1", "trainer.max_steps=100"))
    assert read_plan(["seed=3", "seed=1,2"]).grid() == [["seed=1"], ["seed=2"]]


def test_a_range_a_choice_and_a_glob_are_values(folder: Path) -> None:
    assert trials("seed=range(0,3)") == [["seed=0"], ["seed=1"], ["seed=2"]]
    assert trials("schedule=glob(c*)") == [["schedule=constant"], ["schedule=cosine"]]
    assert trials("model.dropout=choice(0.1,0.2)") == [["model.dropout=0.1"], ["model.dropout=0.2"]]


def test_a_key_with_a_condition_varies_only_where_it_holds(folder: Path) -> None:
    when = "sweep.when={model.num_heads: {model: transformer}}"
    assert trials("model=lstm,transformer", "model.num_heads=2,4", when) == [
        ["model=lstm"],
        ["model=transformer", "model.num_heads=2"],
        ["model=transformer", "model.num_heads=4"],
    ]


def test_a_condition_may_name_several_options() -> None:
    assert applicable(["a=1"], ["model=gpt2"], {"a": "model=lstm|gpt2"}) == ["a=1"]
    assert applicable(["a=1"], ["model=bert"], {"a": "model=lstm|gpt2"}) == []


def test_an_interval_is_searched_and_seeds_are_repeats(folder: Path) -> None:
    plan = read_plan([SEARCH, "seed=1,2,3", "model.num_layers=range(1,4)"])
    assert plan.search is not None
    assert (plan.search.sampler.name, plan.search.pruner.name, plan.search.n_trials) == ("tpe", "none", 20)
    assert plan.seeds == ("1", "2", "3")
    rate, layers = plan.dimensions
    assert (rate.low, rate.high, rate.is_log, rate.is_integer) == (1e-4, 1e-2, True, False)
    assert (layers.low, layers.high, layers.step, layers.is_integer) == (1, 3, 1, True)


def test_a_grid_of_optuna_has_as_many_trials_as_combinations(folder: Path) -> None:
    space = ["seed=7", "model.num_layers=range(1,4)", "model.dropout=0.1,0.2", "hydra/sweeper/sampler=grid"]
    for given, expected in (([], 6), (["hydra.sweeper.n_trials=4"], 4), (["hydra.sweeper.n_trials=40"], 6)):
        search = read_plan([*space, "hydra/sweeper=optuna", *given]).search
        assert search is not None
        assert search.n_trials == expected


def test_the_metric_is_the_first_of_the_task_and_may_be_several(folder: Path) -> None:
    assert read_plan(["seed=1,2"]).metrics == ("val/bits_per_byte",)
    assert read_plan(["experiment=classify_demo", "seed=1,2"]).metrics == ("val/loss_nats",)
    assert read_plan([SEARCH, "sweep.metric=val/loss_nats,parameters"]).metrics == ("val/loss_nats", "parameters")


def test_the_same_command_is_the_same_sweep_and_another_space_is_not(folder: Path) -> None:
    assert read_plan(["seed=1,2", "model=lstm"]).name == read_plan(["seed=1,2", "model=lstm"]).name
    assert read_plan(["seed=1,2", "model=lstm"]).name != read_plan(["seed=1,3", "model=lstm"]).name
    assert read_plan(["seed=1,2", "sweep.retry=true"]).name == read_plan(["seed=1,2"]).name


def test_a_launcher_says_how_many_trials_run_at_once(folder: Path) -> None:
    two = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    assert read_plan(["seed=1,2,3", *two]).num_workers == 2
    assert read_plan(["seed=1", "model=lstm,transformer", *two, "hydra.launcher.n_jobs=8"]).num_workers == 2
    array = ["hydra/launcher=submitit_slurm", "hydra.launcher.array_parallelism=3"]
    plan = read_plan(["seed=range(0,9)", *array])
    assert (plan.num_workers, plan.shares_machine) == (3, False)


WRONG = {
    "an unknown key": (["modle.dropout=0.1,0.2"], "modle.dropout"),
    "a value that does not fit": (["model.dropout=0.1,3"], "model.dropout: must be at least 0, below 1, not 3"),
    "an empty range": (["seed=range(5,1)"], "seed: range(5,1) is empty"),
    "an empty interval": (["optimizer.learning_rate=interval(1e-2,1e-4)"], "interval(0.01,0.0001) is empty"),
    "an end that does not fit": (["model.dropout=interval(0.1,1.5)"], "model.dropout: must be at least 0, below 1"),
    "an unknown metric": (["seed=1,2", "sweep.metric=val/acuracy"], "sweep.metric: val/acuracy is not logged by task="),
    "a metric of the test split": (["seed=1,2", "sweep.metric=test/loss_nats"], "test/loss_nats is not chosen on"),
    "several metrics of a grid": (["seed=1,2", "sweep.metric=[parameters,flops]"], "several are searched"),
    "an unknown setting": (
        ["seed=1,2", "sweep.rety=true"],
        "sweep.rety: there is no such key; did you mean sweep.retry?",
    ),
    "a setting of another type": (["seed=1,2", "sweep.retry=often"], "sweep.retry: must be"),
    "a setting out of range": (["seed=1,2", "sweep.timeout_seconds=-1"], "sweep.timeout_seconds: must be above 0"),
    "an interval in a grid": ([SEARCH, "hydra/sweeper=lmexp"], "an interval is searched by optuna"),
    "another sweeper": (["seed=1,2", "hydra/sweeper=basic"], "take lmexp (every combination; the default) or optuna"),
    "nothing that varies": (["hydra/sweeper=optuna", "seed=1,2"], "nothing varies"),
    "no trials": ([SEARCH, "hydra.sweeper.n_trials=0"], "hydra.sweeper.n_trials: must be a whole number"),
    "an unknown key of Hydra": ([SEARCH, "hydra.sweeper.n_trails=3"], "n_trails"),
    "an unknown sampler": ([SEARCH, "hydra/sweeper/sampler=tpee"], "has no option 'tpee'"),
    "a sampler out of range": (
        [SEARCH, "hydra.sweeper.sampler.n_startup_trials=0"],
        "n_startup_trials: must be at least 1",
    ),
    "an endless grid": ([SEARCH, "hydra/sweeper/sampler=grid"], "a grid takes lists and range()"),
    "a logarithm of 0": (["model.dropout=tag(log,interval(0,0.5))"], "a logarithmic scale begins above 0"),
    "a condition on nothing": (
        ["seed=1,2", "sweep.when={model.dropout: {model: lstm}}"],
        "model.dropout does not vary",
    ),
    "a condition of no form": (["seed=1,2", "sweep.when={seed: lstm}"], "sweep.when: must be"),
    "a pruner and two aims": (
        [SEARCH, "sweep.metric=[val/loss_nats,parameters]", "hydra/sweeper/pruner=asha"],
        "ends trials by one metric",
    ),
    "workers without a launcher": (["seed=1,2", "sweep.workers=2"], "take hydra/launcher=joblib"),
}


@pytest.mark.parametrize(("overrides", "message"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_said_before_any_trial(folder: Path, overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        read_plan(overrides)
    assert message in str(error.value)
    assert len(str(error.value).splitlines()) == 1, str(error.value)
    assert not list(folder.iterdir())


def test_the_door_says_it_in_one_line_with_exit_code_2(folder: Path) -> None:
    from typer.testing import CliRunner

    found = CliRunner().invoke(app, ["train", "-m", "seed=range(5,1)"])
    assert (found.exit_code, found.stderr) == (2, "error: seed: range(5,1) is empty\n")
