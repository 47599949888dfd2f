"""Optuna behind a sweep: what to try next, and which trials are not worth their end.

The study lies in a journal on disk that every worker reads. Asking happens under the lock of the sweep, so that the
number of trials is a total. A sampler is made anew for each question, seeded by its own seed and the number of the
trial: a search that was cut off goes on as if it had not been, and workers do not draw the same.
"""

import logging
import warnings
from pathlib import Path
from typing import IO, Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.storages.journal._file import BaseJournalFileLock
from optuna.trial import Trial, TrialState

from lmexp.errors import RunError, StorageError
from lmexp.sweeps.plan import Dimension, applicable
from lmexp.sweeps.record import DONE, FAILED, PRUNED, Record, SweepFolder, require_lock
from lmexp.sweeps.record import Trial as Row

optuna.logging.set_verbosity(logging.ERROR)
optuna.logging.disable_propagation()
STUDY = "sweep"
STATES = {DONE: TrialState.COMPLETE, FAILED: TrialState.FAIL, PRUNED: TrialState.PRUNED}


class Study:
    """The study of a sweep, as one worker sees it."""

    def __init__(self, folder: SweepFolder, record: Record) -> None:
        self.folder, self.space, self.directions = folder, record["space"], record["directions"]
        self.dimensions = [Dimension(**{**one, "values": tuple(one["values"])}) for one in self.space["dimensions"]]
        self.pruner = build_pruner(self.space["pruner"])
        path = folder.journal.absolute()
        _cut_torn_line(path)
        try:
            storage = JournalStorage(JournalFileBackend(str(path), lock_obj=_FileLock(path)))
            self.study = optuna.create_study(
                storage=storage,
                pruner=self.pruner,
                study_name=STUDY,
                load_if_exists=True,
                directions=["minimize" if direction == "lower" else "maximize" for direction in self.directions],
            )
        except OSError as error:
            raise StorageError(f"{path}: {error.strerror or error}") from None
        except StorageError:
            raise
        except Exception as error:  # json, key, type: as many as a damaged file has ways
            raise RunError(f"{path} is damaged ({error}); its runs are not touched: delete {folder.path}") from None

    def ask(self, number: int) -> tuple[int, list[str]]:
        """Return (the number of a new trial in the study, its overrides)."""
        self.study.sampler = build_sampler(self.space["sampler"], self.dimensions, number)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            trial = self.study.ask()
            overrides: list[str] = []
            for dimension in self.dimensions:
                given = (*self.space["fixed"], *overrides)
                if applicable([f"{dimension.key}="], given, self.space["when"]):
                    overrides.append(f"{dimension.key}={suggest(trial, dimension)}")
        return trial.number, overrides

    def ask_again(self, row: Row) -> int:
        """Return the number of a new trial with the values of an old one, which has failed."""
        params = dict(text.partition("=")[::2] for text in row["overrides"])
        known = {dimension.key: dimension for dimension in self.dimensions}
        values = {key: _value(known[key], value) for key, value in params.items()}
        self.study.enqueue_trial(values)
        trial = self.study.ask()
        for key in params:
            suggest(trial, known[key])
        return trial.number

    def should_prune(self, number: int, step: int, value: float) -> bool:
        """Report what a validation came to; return whether the trial is not worth its end."""
        storage, trial_id = self.study._storage, self._id(number)
        if step not in storage.get_trial(trial_id).intermediate_values:
            storage.set_trial_intermediate_value(trial_id, step, value)
        return bool(self.pruner.prune(self.study, storage.get_trial(trial_id)))

    def tell(self, number: int, state: str, values: list[float] | None) -> None:
        """Tell the study how a trial has ended; once is enough."""
        is_done = state == DONE
        self.study.tell(number, values if is_done else None, state=STATES[state], skip_if_finished=True)

    def forget_unknown(self, record: Record) -> None:
        """End the trials that were asked for and never written down: a worker died between the two."""
        known = {row["study"] for row in record["trials"]}
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if trial.number not in known:
                self.study.tell(trial.number, state=TrialState.FAIL)

    def _id(self, number: int) -> int:
        return self.study._storage.get_trial_id_from_study_id_trial_number(self.study._study_id, number)


def suggest(trial: Trial, dimension: Dimension) -> str:
    """Return the value of a key in a trial, as a command line has it."""
    value = trial._suggest(dimension.key, distribution(dimension))
    return repr(value) if isinstance(value, float) else str(value)


def distribution(dimension: Dimension) -> BaseDistribution:
    """Return what a key is drawn from."""
    low, high = dimension.low, dimension.high
    if low is None or high is None:
        return CategoricalDistribution(dimension.values)
    if dimension.is_integer:
        step = 1 if dimension.is_log else int(dimension.step or 1)
        return IntDistribution(int(low), int(high), log=dimension.is_log, step=step)
    return FloatDistribution(low, high, log=dimension.is_log, step=dimension.step)


def _value(dimension: Dimension, text: str) -> Any:
    if not dimension.is_number:
        return text
    return int(text) if dimension.is_integer else float(text)


def build_sampler(settings: dict[str, Any], dimensions: list[Dimension], number: int) -> BaseSampler:
    """Return Optuna's sampler for the trial of this number."""
    rest = {key: value for key, value in settings.items() if key not in ("name", "seed")}
    if settings["name"] == "grid":  # the seed is that of the order, the journal knows how far it is
        return _Grid({one.key: list(one.grid) for one in dimensions}, seed=settings["seed"])
    samplers: dict[str, Any] = {
        "tpe": optuna.samplers.TPESampler,
        "random": optuna.samplers.RandomSampler,
        "cmaes": optuna.samplers.CmaEsSampler,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return samplers[settings["name"]](seed=settings["seed"] * 1_000_003 + number, **rest)


class _Grid(optuna.samplers.GridSampler):
    """Optuna's grid, which would end the study after its last combination: here the number of trials does."""

    def after_trial(self, *_: Any) -> None:
        """Do nothing."""


def build_pruner(settings: dict[str, Any]) -> optuna.pruners.BasePruner:
    """Return Optuna's pruner; what it calls a step, or a resource, is a validation."""
    rest = {key: value for key, value in settings.items() if key != "name"}
    pruners: dict[str, Any] = {
        "none": optuna.pruners.NopPruner,
        "median": optuna.pruners.MedianPruner,
        "asha": optuna.pruners.SuccessiveHalvingPruner,
        "hyperband": optuna.pruners.HyperbandPruner,
    }
    return pruners[settings["name"]](**rest)


def importances(record: Record) -> dict[str, float]:
    """Return the share of the variance of the first metric that each key explains (fANOVA, Hutter et al. 2014), the
    largest first; {} where fewer than four trials, or a single key, say nothing.
    """
    study = as_study(record)
    keys = {key for trial in study.trials for key in trial.params}
    if len(study.trials) < 4 or len(keys) < 2:
        return {}
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    common = [key for key in keys if all(key in trial.params for trial in study.trials)]
    if len(common) < 2:
        return {}
    return optuna.importance.get_param_importances(study, evaluator=evaluator, params=sorted(common))


def as_study(record: Record) -> optuna.Study:
    """Return the finished trials of any sweep, a grid too, as a study in memory with the first metric as its aim."""
    space = record["space"]
    dimensions = [Dimension(**{**one, "values": tuple(one["values"])}) for one in space["dimensions"]]
    study = optuna.create_study(direction="minimize" if record["directions"][0] == "lower" else "maximize")
    known = {dimension.key: dimension for dimension in dimensions}
    for row in record["trials"]:
        if row["state"] != DONE or not row.get("values"):
            continue
        params = dict(text.partition("=")[::2] for text in row["overrides"])
        study.add_trial(
            optuna.trial.create_trial(
                params={key: _value(known[key], value) for key, value in params.items() if key in known},
                distributions={key: distribution(known[key]) for key in params if key in known},
                value=row["values"][0],
            )
        )
    return study


class _FileLock(BaseJournalFileLock):
    """The lock of the journal, which the kernel opens when its holder dies; Optuna's own would stay."""

    def __init__(self, path: Path) -> None:
        self.path = path.with_suffix(".lock")
        self._file: IO[str] | None = None

    def acquire(self) -> bool:
        self._file = open(self.path, "a", encoding="utf-8")  # noqa: SIM115 - open while it is held
        try:
            require_lock(self._file)
        except StorageError:
            self.release()
            raise
        return True

    def release(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def _cut_torn_line(path: Path) -> None:
    """Take away the last line of a journal where a crash has cut it off: the next one would be glued to it."""
    if not path.is_file():
        return
    lock = _FileLock(path)
    lock.acquire()
    try:
        content = path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            path.write_bytes(whole)
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror or error}") from None
    finally:
        lock.release()
