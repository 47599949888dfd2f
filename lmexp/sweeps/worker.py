"""A worker takes the trials of a sweep, one after the other, until none is left.

Any number of workers share a sweep, whoever started them: the processes of a launcher, or a second command line. Each
trial is trained in a process of its own. The worker follows its metrics.jsonl, ends it where it takes too long or too
much, and asks the study whether it is worth its end.
"""

import copy
import math
import os
import signal
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lmexp.config.compose import Memo, compose
from lmexp.config.logger import WandbConfig
from lmexp.config.trainer import count_gpus
from lmexp.errors import BusyError, LmexpError, Stopped
from lmexp.runs import RunFolder
from lmexp.runs.folder import now
from lmexp.sweeps.record import (
    DONE,
    ENDED,
    FAILED,
    PRUNED,
    RUNNING,
    WAITING,
    Record,
    SweepFolder,
    Trial,
    best_trials,
    new_trial,
    release,
    values_of,
)
from lmexp.training.children import STOPS, Child, Server, die_with_parent, kill, resident_bytes, tell
from lmexp.training.start import train, usable_cores

LOOK_SECONDS = 0.05
WAIT_SECONDS = 0.5
BUSY_SECONDS = 5.0
GRACE_SECONDS = 60.0
"""What a trial that is asked to stop may take to save a checkpoint."""


class Worker:
    """One process that runs trials."""

    def __init__(self, folder: SweepFolder, *, settings: dict[str, Any], plugins: Sequence[str], driver: str) -> None:
        self.folder, self.plugins, self.settings, self.driver = folder, list(plugins), settings, driver
        self.metrics: list[str] = folder.record["metrics"]
        self.space: dict[str, Any] = folder.record["space"]
        self.server = Server()
        self.study: Any = None
        self.memo: Memo = {}
        self.stopped_by: int | None = None
        self.busy_until: defaultdict[int, float] = defaultdict(float)

    def run(self) -> int | None:
        """Take trials until none is left, or the sweep is told to stop; return the signal that ended it, if one did."""
        if "sampler" in self.space:
            from lmexp.sweeps.search import Study

            with self.folder.open() as record:
                self.study = Study(self.folder, record)
                self.study.forget_unknown(record)
        before = {number: signal.signal(number, self._note_signal) for number in STOPS}
        try:
            self._take_trials()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        return self.stopped_by

    def _take_trials(self) -> None:
        tried: set[int] = set()
        while self.stopped_by is None and not self.folder.is_stopping:
            with self.folder.open() as record:
                trial = self._take(record, tried)
                is_over = all(row["state"] in ENDED for row in record["trials"])
            if trial is not None:
                tried.add(trial["number"])
                self._finish(trial, *self._outcome(trial))
            elif is_over:
                break
            else:
                time.sleep(WAIT_SECONDS)  # a worker that dies leaves its trial to us

    def _note_signal(self, number: int, _: Any) -> None:
        """Take no further trial; one that is at work is told."""
        self.stopped_by = self.stopped_by or number

    def _take(self, record: Record, tried: set[int]) -> Trial | None:
        """Return a trial that is now ours, None where there is none."""
        release(record, self.folder)
        rows = record["trials"]
        free = [row for row in rows if row["state"] == WAITING and self.busy_until[row["number"]] < time.monotonic()]
        again = [
            row for row in rows if row["state"] == FAILED and self.settings["retry"] and row["number"] not in tried
        ]
        if not free and not again and self.study is not None and len(rows) < record["n_trials"]:
            number, overrides = self.study.ask(len(rows))
            rows.append(new_trial(len(rows), overrides, record["space"]["seeds"], study=number))
            free = rows[-1:]
        for row in (free or again)[:1]:
            if row["state"] == FAILED and self.study is not None:
                row["study"] = self.study.ask_again(row)
            row["retried"] = row["retried"] or row["state"] == FAILED
            row |= {"state": RUNNING, "driver": self.driver, "began": time.time(), "error": None, "exit_code": 1}
            return copy.deepcopy(row)
        return None

    def _outcome(self, trial: Trial) -> tuple[str, str | None]:
        """Run a trial, and return its state with what went wrong."""
        follower = Follower(self, trial, is_first=True)
        runs: list[str] = []
        try:
            for place in range(max(1, len(trial["seeds"]))):
                follower = Follower(self, trial, is_first=place == 0)
                run = self._train(trial, place, follower)
                follower.last_look(run)
                runs.append(str(run.path))
            trial |= {"runs": runs, "values": values_of(self.metrics, runs)}
            return DONE, None
        except Stopped:
            return follower.reason or (WAITING, None)
        except BusyError:  # another sweep trains the same experiment, or what a killed worker has left behind
            self.busy_until[trial["number"]] = time.monotonic() + BUSY_SECONDS
            return WAITING, None
        except LmexpError as error:
            if follower.reason is not None:  # it was killed by us, and run.json should say why
                RunFolder(Path(trial["runs"][-1])).update(error=follower.reason[1])
                return follower.reason
            if follower.told_at is not None:  # it did not stop by itself, and was killed
                RunFolder(Path(trial["runs"][-1])).update(status="stopped", error=None)
                return WAITING, None
            trial["exit_code"] = error.exit_code
            return FAILED, str(error)

    def _train(self, trial: Trial, place: int, follower: "Follower") -> RunFolder:
        seeds = trial["seeds"]
        overrides = [*self.space["fixed"], *trial["overrides"], *([f"seed={seeds[place]}"] if seeds else [])]
        config = compose("train", overrides, memo=self.memo)
        if isinstance(config.logger, WandbConfig) and config.logger.run_group is None:
            config = replace(config, logger=replace(config.logger, run_group=self.folder.name))
        options: dict[str, Any] = {"start": self.server.start, "watch": follower, "retry": trial["retried"]}
        command = ["train", *overrides]
        return train(config, command=command, plugins=self.plugins, sweep=self.folder.name, **options)

    def note(self, trial: Trial, run: str) -> None:
        """Write down which folder a trial has."""
        if run in trial["runs"]:
            return
        trial["runs"].append(run)
        with self.folder.open() as record:
            record["trials"][trial["number"]]["runs"] = trial["runs"]

    def _finish(self, trial: Trial, state: str, error: str | None) -> None:
        seconds = trial["seconds"] + time.time() - trial["began"]
        with self.folder.open() as record:
            row = record["trials"][trial["number"]]
            row |= {"state": state, "error": error, "driver": None, "began": None, "seconds": round(seconds, 2)}
            row |= {
                "exit_code": trial["exit_code"],
                "runs": trial["runs"],
                "values": trial["values"] if state == DONE else None,
            }
            if self.study is not None and state in ENDED:
                self.study.tell(row["study"], state, row["values"])
            record |= {"best": best_trials(record), "updated": now()}


class Follower:
    """Looks at a run while it is trained."""

    def __init__(self, worker: Worker, trial: Trial, *, is_first: bool) -> None:
        self.worker, self.trial, self.is_first = worker, trial, is_first
        self.began = self.looked = 0.0
        self.told_at: float | None = None
        self.reason: tuple[str, str | None] | None = None
        self.is_known = False
        self.bytes_seen = self.validations = 0

    def __call__(self, run: RunFolder, child: Child) -> None:
        now = time.monotonic()
        if now - self.looked < LOOK_SECONDS:
            return
        self.began, self.looked = self.began or now, now
        self._make_known(run)
        if self.told_at is not None:
            if (self.reason is not None and self.reason[0] == FAILED) or now - self.told_at > GRACE_SECONDS:
                kill(child)
            return
        limit, most = self.worker.settings["timeout_seconds"], self.worker.settings["max_memory_gb"]
        if limit is not None and now - self.began > limit:
            self._end(child, f"it took longer than sweep.timeout_seconds={limit:g}")
        elif most is not None and resident_bytes(child) > most * 1e9:
            self._end(child, f"it took more memory than sweep.max_memory_gb={most:g}")
        elif self._is_hopeless(run):
            self.reason = (PRUNED, None)
            self._ask_to_stop(child)
        elif self.worker.folder.is_stopping or self.worker.stopped_by is not None:
            self._ask_to_stop(child)

    def last_look(self, run: RunFolder) -> None:
        """Report the validations of a run that has ended, also of one that was done before."""
        self._make_known(run)
        self._is_hopeless(run)

    def _make_known(self, run: RunFolder) -> None:
        if self.is_known:
            return
        self.is_known = True
        self.worker.note(self.trial, str(run.path))

    def _is_hopeless(self, run: RunFolder) -> bool:
        """Report the validations since the last look; return whether the run is not worth its end."""
        study, path = self.worker.study, run.path / "metrics.jsonl"
        if study is None or not self.is_first or len(self.worker.metrics) > 1 or not path.is_file():
            return False
        size = path.stat().st_size
        if size == self.bytes_seen:
            return False
        self.bytes_seen = size
        rows = [row for row in run.metrics if self.worker.metrics[0] in row and row["step"] > 0]
        is_hopeless = False
        for number, row in enumerate(rows[self.validations :], self.validations + 1):
            self.validations = number
            is_hopeless = study.should_prune(self.trial["study"], number, row[self.worker.metrics[0]])
        return is_hopeless and rows[-1]["step"] < run.record.get("max_steps", math.inf)

    def _end(self, child: Child, why: str) -> None:
        self.reason, self.told_at = (FAILED, why), time.monotonic()
        kill(child)

    def _ask_to_stop(self, child: Child) -> None:
        self.told_at = time.monotonic()
        tell(child, signal.SIGTERM)


def work(
    folder: SweepFolder, *, settings: dict[str, Any], plugins: Sequence[str], place: int, beside: int
) -> int | None:
    """Be one of `beside` workers on this machine; return the signal that ended it, if one did.

    They divide the cores, and the GPUs where there are several.
    """
    if beside > 1:
        die_with_parent()
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, usable_cores() // beside)))
        gpus = count_gpus()
        if gpus > 1 and "CUDA_VISIBLE_DEVICES" not in os.environ:
            os.environ["CUDA_VISIBLE_DEVICES"] = str(place % gpus)
    with folder.driver() as driver:
        return Worker(folder, settings=settings, plugins=plugins, driver=driver).run()
