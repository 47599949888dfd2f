"""`lmexp train -m`: read the plan, find or make the sweep, let Hydra's launcher start the workers, show how it goes."""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from lmexp.config.compose import CONF, forget_foreign_schemas, hydra_searchpath, register_schemas
from lmexp.config.plugins import load_plugins
from lmexp.errors import ConfigError, LmexpError, Problem, RunError, Stopped
from lmexp.runs.folder import now
from lmexp.sweeps.check import directions
from lmexp.sweeps.plan import Plan, read_plan
from lmexp.sweeps.record import DONE, FAILED, FOLDER, PRUNED, WAITING, Record, SweepFolder, new_trial
from lmexp.sweeps.show import Watcher, closing_lines
from lmexp.sweeps.worker import work


class Job:
    """What Hydra's launcher runs: a worker. It travels to other processes, so it holds plain values."""

    def __init__(self, folder: SweepFolder, plan: Plan, plugins: Sequence[str]) -> None:
        self.folder = SweepFolder(folder.path.absolute())
        self.plugins, self.num_workers = list(plugins), plan.num_workers
        self.settings = {key: getattr(plan.settings, key) for key in ("retry", "timeout_seconds", "max_memory_gb")}
        self.beside = plan.num_workers if plan.shares_machine else 1
        self.working_folder = Path.cwd()
        self.outcomes: list[int | str | None] = []
        """What ended each worker before the last trial: a signal, or an error."""

    def __call__(self, composed: DictConfig) -> int | str | None:
        os.chdir(self.working_folder)
        load_plugins(self.plugins)
        place = HydraConfig.get().job.num
        GlobalHydra.instance().clear()  # the worker composes the configs of its trials
        try:
            return work(self.folder, settings=self.settings, plugins=self.plugins, place=place, beside=self.beside)
        except LmexpError as error:
            return str(error)


def sweep(
    overrides: Sequence[str], *, plugins: Sequence[str], say: Callable[[str], None], extends: bool = False
) -> int:
    """Run every trial and return the exit code: 0, or that of the first trial that failed.

    A sweep that is there goes on; where its space is another one, only if this `extends` it.

    Raises:
        ConfigError: before the first trial, with the problems of all.
        Stopped: by a signal; trials that were at work have a checkpoint.
    """
    plan = read_plan(overrides)
    folder = SweepFolder(Path(plan.output_dir) / plan.project / FOLDER / plan.name)
    record = begin(folder, plan, overrides, plugins, extends=extends)
    say(opening_line(folder, record, plan))
    job = Job(folder, plan, plugins)
    with Watcher(folder, say):
        _launch(job, plan)
    if error := next((outcome for outcome in job.outcomes if isinstance(outcome, str)), None):
        raise RunError(error)
    record = folder.record
    for line in closing_lines(folder, record):
        say(line)
    if number := next((outcome for outcome in job.outcomes if isinstance(outcome, int)), None):
        raise Stopped(f"stopped; the same command goes on with {folder.name}", number)
    return next((trial["exit_code"] for trial in record["trials"] if trial["state"] == FAILED), 0)


def begin(
    folder: SweepFolder, plan: Plan, overrides: Sequence[str], plugins: Sequence[str], *, extends: bool = False
) -> Record:
    """Return the record of a sweep that is there, with the trials that the plan adds, or of a new one.

    Raises:
        ConfigError: a sweep of this name has another space.
    """
    with folder.open() as record:
        if record:
            if plan.space not in (record["space"], *record["earlier_spaces"]):
                if not extends:
                    raise _other_space(record, plan)
                record["earlier_spaces"].append(record["space"])
                record |= {"space": plan.space, "command": ["train", "-m", *overrides]}
            if plan.search:
                record["n_trials"] = max(record["n_trials"], plan.search.n_trials)
            else:
                known = {tuple(trial["overrides"]) for trial in record["trials"]}
                new = [one for one in plan.grid() if tuple(one) not in known]
                record["trials"] += [new_trial(number, one, []) for number, one in enumerate(new, len(known))]
                record["n_trials"] = len(record["trials"])
            for trial in record["trials"]:
                if trial["state"] in (DONE, PRUNED) and not all(Path(run).is_dir() for run in trial["runs"]):
                    trial |= {"state": WAITING, "runs": [], "values": None}  # a person has deleted its run
        else:
            better = plan.settings.better.name if plan.settings.better else None
            trials = [] if plan.search else [new_trial(number, one, []) for number, one in enumerate(plan.grid())]
            record |= {
                "name": plan.name,
                "command": ["train", "-m", *overrides],
                "working_folder": str(Path.cwd()),
                "plugins": list(plugins),
                "created": now(),
                "space": plan.space,
                "earlier_spaces": [],
                "metrics": list(plan.metrics),
                "directions": directions(plan.metrics, better),
                "n_trials": plan.search.n_trials if plan.search else len(trials),
                "trials": trials,
                "best": [],
            }
    folder.go_on()
    return record


def _other_space(record: Record, plan: Plan) -> ConfigError:
    """Return what to say where a sweep of this name searches something else."""
    before, after = record["space"], plan.space
    changed = [key for key in after if before.get(key) != after[key]]
    dimensions = {one["key"]: one for one in before["dimensions"]}
    keys = [one["key"] for one in after["dimensions"] if dimensions.pop(one["key"], None) != one] + list(dimensions)
    named = ", ".join(keys) if keys else ", ".join(changed)
    message = f"{plan.name} is there with another space ({named}); give another name, or lmexp sweep extend {plan.name}"
    return ConfigError([Problem("sweep.name", message)])


def opening_line(folder: SweepFolder, record: Record, plan: Plan) -> str:
    """Return what a sweep is about to do, and what it finds done."""
    states = [trial["state"] for trial in record["trials"]]
    done, failed = sum(state in (DONE, PRUNED) for state in states), states.count(FAILED)
    text = f"{folder.name}: {record['n_trials']} trials"
    if plan.num_workers > 1:
        text += f", {plan.num_workers} at once"
    if done:
        text += f"; {done} done already"
    if failed:
        text += f"; {failed} failed, " + ("run again" if plan.settings.retry else "left alone (sweep.retry=true)")
    return text


def _launch(job: Job, plan: Plan) -> None:
    """Let Hydra's launcher start the workers and wait for them."""
    register_schemas()
    forget_foreign_schemas()  # each worker loads the plug-ins itself
    argv, sys.argv = sys.argv, ["lmexp", "-m", *hydra_searchpath(plan.hydra), *plan.hydra]
    try:
        hydra.main(version_base="1.3", config_path=str(CONF), config_name="train")(job)()
    finally:
        sys.argv = argv
