"""What cannot be right in a sweep, though each of its trials is: said before the first of them."""

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from importlib.util import find_spec
from typing import TYPE_CHECKING

from lmexp.config.train import TrainConfig
from lmexp.errors import LmexpError, MissingPackageError, Problem
from lmexp.runs.metrics import direction_of

if TYPE_CHECKING:
    from lmexp.sweeps.plan import Dimension, Plan

RECORDED = ("parameters", "flops", "tokens", "seconds_trained", "peak_memory_bytes")
"""What run.json says of a run beside its metrics, and less of is better."""


def problems_of_plan(plan: "Plan", trials: Sequence[TrainConfig]) -> Iterator[Problem]:
    """Yield what is wrong with what is chosen by, with the search, and with the number of workers.

    Raises:
        MissingPackageError: the search needs a package that is not installed.
    """
    yield from _problems_of_metrics(plan, trials)
    yield from _problems_of_search(plan)
    yield from _problems_of_workers(plan)


def problems_of_conditions(when: dict[str, str], dimensions: Sequence["Dimension"]) -> Iterator[Problem]:
    """Yield the conditions of keys that do not vary."""
    keys = [dimension.key for dimension in dimensions]
    for key in when:
        if key not in keys:
            near = get_close_matches(key, keys, 1)
            hint = f"did you mean {near[0]}?" if near else f"these do: {', '.join(keys) or 'none'}"
            yield Problem("sweep.when", f"{key} does not vary in this sweep; {hint}")


def _problems_of_metrics(plan: "Plan", trials: Sequence[TrainConfig]) -> Iterator[Problem]:
    for metric in plan.metrics:
        for trial in trials:
            split, _, name = metric.partition("/")
            known = trial.task.metric_names
            if metric in RECORDED or metric in known:
                continue
            near = get_close_matches(metric, [*known, *RECORDED], 1)
            hint = f"did you mean {near[0]}?" if near else f"it logs {', '.join(known)}"
            why = "is not chosen on" if split == "test" and f"val/{name}" in known else "is not logged by"
            yield Problem("sweep.metric", f"{metric} {why} task={trial.task.name}; {hint}")
            break
        else:
            try:
                directions([metric], plan.settings.better.name if plan.settings.better else None)
            except LmexpError:
                yield Problem("sweep.better", f"say whether a lower or a higher {metric} is better")


def _problems_of_search(plan: "Plan") -> Iterator[Problem]:
    search = plan.search
    if search is None:
        if len(plan.metrics) > 1:
            yield Problem(
                "sweep.metric", "several are searched: hydra/sweeper=optuna; lmexp compare shows them of a grid"
            )
        return
    if not plan.dimensions:
        yield Problem("", "nothing varies: give a key several values, or an interval(low,high)")
    if len(plan.metrics) > 1 and search.pruner.name != "none":
        yield Problem("hydra/sweeper/pruner", "ends trials by one metric; leave it out where there are several")
    endless = [dimension.key for dimension in plan.dimensions if dimension.is_number and dimension.step is None]
    whole = [d for d in plan.dimensions if d.is_number and d.is_integer]
    if search.sampler.name == "grid" and set(endless) - {dimension.key for dimension in whole}:
        yield Problem("hydra/sweeper/sampler", f"a grid takes lists and range(); {endless[0]} is an interval")
    if search.sampler.name in ("grid", "cmaes") and plan.settings.when:
        yield Problem("sweep.when", f"{search.sampler.name} has no conditions; take sampler=tpe or random")
    if search.sampler.name == "cmaes" and find_spec("cmaes") is None:
        raise MissingPackageError("cmaes", "sweep")
    for dimension in plan.dimensions:
        if dimension.is_log and (dimension.low or 0) <= 0:
            yield Problem(dimension.key, "a logarithmic scale begins above 0")
        if dimension.is_log and dimension.step not in (None, 1):
            yield Problem(dimension.key, "a logarithmic scale has no steps")


def _problems_of_workers(plan: "Plan") -> Iterator[Problem]:
    if plan.settings.workers and plan.settings.workers > 1 and "Basic" in str(plan.launcher.get("_target_")):
        yield Problem(
            "sweep.workers", "one after the other is all hydra/launcher=basic can; take hydra/launcher=joblib"
        )


def directions(metrics: Sequence[str], better: str | None) -> list[str]:
    """Return for each metric whether lower or higher is better.

    Raises:
        RunError: the name does not say it.
    """
    return ["lower" if metric in RECORDED else direction_of(metric, better).value for metric in metrics]
