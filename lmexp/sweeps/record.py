"""The folder of a sweep: what it is to do, which trials there are, and how each stands. It is read without Optuna.

    outputs/<project>/sweeps/<name>/sweep.json     space, trials, states, best; replaced as a whole under the lock
                                    drivers/       a file for each worker, locked for as long as it lives
                                    journal.log    Optuna's storage, for a search

A trial that a worker has taken and not finished when it died is free again: the kernel gives its lock back.
"""

import fcntl
import json
import math
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from lmexp.errors import RunError, StorageError
from lmexp.runs.folder import RunFolder, lock_within, replace_file, storage_error

WAITING, RUNNING, DONE, FAILED, PRUNED = "waiting", "running", "done", "failed", "pruned"
ENDED = (DONE, FAILED, PRUNED)
FOLDER = "sweeps"
SECONDS_TO_LOCK = 20.0
Record = dict[str, Any]
Trial = dict[str, Any]


class SweepFolder:
    """A sweep on disk."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def name(self) -> str:
        """What the sweep is called."""
        return self.path.name

    @property
    def journal(self) -> Path:
        """Optuna's storage."""
        return self.path / "journal.log"

    @property
    def record(self) -> Record:
        """The content of sweep.json, {} when there is none.

        Raises:
            RunError: sweep.json cannot be read.
        """
        path = self.path / "sweep.json"
        try:
            record: Record = json.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except (OSError, ValueError) as error:
            raise RunError(f"{path} cannot be read ({error}); its runs are not touched: delete {self.path}") from None
        if not _is_whole(record):
            raise RunError(f"{path} holds no sweep; its runs are not touched: delete {self.path}")
        return record

    @contextmanager
    def open(self) -> Iterator[Record]:
        """Give the record to one process at a time, and write it where it was changed.

        Raises:
            RunError: it cannot be read.
            StorageError: the disk is full or read-only.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = open(self.path / "sweep.lock", "a", encoding="utf-8")  # noqa: SIM115 - open while it is held
        except OSError as error:
            raise storage_error(error, self.path) from None
        with lock:
            require_lock(lock)
            record = self.record
            before = json.dumps(record)
            yield record
            after = json.dumps(record)
            if after == before:
                return
            try:
                replace_file(self.path / "sweep.json", after)
            except OSError as error:
                raise storage_error(error, self.path) from None

    @contextmanager
    def driver(self) -> Iterator[str]:
        """Be a worker of this sweep, for as long as this process lives."""
        folder, name = self.path / "drivers", uuid.uuid4().hex[:8]
        try:
            folder.mkdir(parents=True, exist_ok=True)
            opened = open(folder / name, "w", encoding="utf-8")  # noqa: SIM115 - open for as long as it lives
        except OSError as error:
            raise storage_error(error, folder) from None
        with opened as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write(str(os.getpid()))
            file.flush()
            yield name
        (folder / name).unlink(missing_ok=True)

    def is_alive(self, driver: str | None) -> bool:
        """Return whether a worker still lives."""
        if driver is None:
            return False
        try:
            with open(self.path / "drivers" / driver, encoding="utf-8") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except OSError:
            return True
        (self.path / "drivers" / driver).unlink(missing_ok=True)
        return False

    @property
    def is_stopping(self) -> bool:
        """Whether the workers have been told to end."""
        return (self.path / "stop").exists()

    def stop(self) -> None:
        """Tell every worker to end; trials that are at work save a checkpoint."""
        (self.path / "stop").touch()

    def go_on(self) -> None:
        """Take that back."""
        (self.path / "stop").unlink(missing_ok=True)


def require_lock(file: IO[str]) -> None:
    """Lock a file that others hold for moments only.

    Raises:
        StorageError: somebody holds it for longer.
    """
    if not lock_within(file, SECONDS_TO_LOCK):
        raise StorageError(f"{file.name} is locked by a process that does not let go; find it with: fuser {file.name}")


def _is_whole(record: Any) -> bool:
    """Return whether a record, and each of its trials, has what every one of ours has."""
    keys = ("name", "command", "space", "metrics", "directions", "n_trials", "trials", "best")
    if not isinstance(record, dict) or any(key not in record for key in keys) or not isinstance(record["trials"], list):
        return False
    wanted = new_trial(0, [], []).keys()
    return all(isinstance(trial, dict) and wanted <= trial.keys() for trial in record["trials"])


def new_trial(number: int, overrides: list[str], seeds: list[str], **more: Any) -> Trial:
    """Return a trial that nobody has begun."""
    begun: Trial = {"state": WAITING, "runs": [], "values": None, "error": None, "seconds": 0.0, "retried": False}
    return {"number": number, "overrides": overrides, "seeds": seeds, **begun, **more}


def best_trials(record: Record) -> list[int]:
    """Return the numbers of the best trials: one, or those that no other beats in every metric."""
    signs = [1 if direction == "lower" else -1 for direction in record["directions"]]
    scored = {
        trial["number"]: [sign * value for sign, value in zip(signs, trial["values"], strict=True)]
        for trial in record["trials"]
        if trial["state"] == DONE and trial.get("values") and all(map(math.isfinite, trial["values"]))
    }
    if len(signs) == 1:
        return [min(scored, key=lambda number: scored[number])] if scored else []

    def beats(one: list[float], other: list[float]) -> bool:
        return one != other and all(a <= b for a, b in zip(one, other, strict=True))

    return [number for number, values in scored.items() if not any(beats(other, values) for other in scored.values())]


def values_of(metrics: list[str], runs: list[str]) -> list[float]:
    """Return the metrics of a trial, each the mean over its runs.

    Raises:
        RunError: a run does not have one.
    """
    found = [_numbers(RunFolder(Path(run)).record, metrics, run) for run in runs]
    return [sum(values) / len(values) for values in zip(*found, strict=True)]


def _numbers(run_record: dict[str, Any], metrics: list[str], run: str) -> list[float]:
    there = {**run_record, **run_record.get("metrics", {})}
    for metric in metrics:
        if not isinstance(there.get(metric), int | float):
            known = sorted(run_record.get("metrics", {}))
            raise RunError(f"{run} has no {metric}; it has {', '.join(known)}")
    return [float(there[metric]) for metric in metrics]


def find_sweep(name: str, outputs: str | Path) -> SweepFolder:
    """Return a sweep by its folder, its name, or a part of the name that no other has.

    Raises:
        RunError: there is none, or several.
    """
    if (Path(name).expanduser() / "sweep.json").is_file():
        return SweepFolder(Path(name).expanduser())
    there = sorted(path.parent for path in Path(outputs).glob(f"*/{FOLDER}/*/sweep.json"))
    exact = [path for path in there if path.name == name] or [path for path in there if name in path.name]
    if len(exact) == 1:
        return SweepFolder(exact[0])
    if exact:
        raise RunError(f"'{name}' is part of {len(exact)} names: {', '.join(path.name for path in exact)}")
    known = f"there are {', '.join(path.name for path in there)}" if there else "there is none yet: lmexp train -m ..."
    raise RunError(f"no sweep is called '{name}' below {outputs}/; {known}")


def seconds_of(trial: Trial) -> float:
    """Return how long a trial has been at work."""
    return trial["seconds"] + (time.time() - trial["began"] if trial["state"] == RUNNING else 0.0)


def release(record: Record, folder: SweepFolder) -> None:
    """Free the trials whose worker has died."""
    for trial in record["trials"]:
        if trial["state"] == RUNNING and not folder.is_alive(trial["driver"]):
            trial |= {"state": WAITING, "driver": None, "began": None}
