"""One model that answers many at once: a thread of its own, to which requests are handed.

Requests that wait and ask for the same way of choosing tokens are written together, row by row of one batch; what one
of them gets does not depend on the others, for each has its own random numbers.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from lmexp.errors import LmexpError
from lmexp.generation.forms import Form
from lmexp.generation.rows import evaluating
from lmexp.generation.sampling import Sampling
from lmexp.generation.text import Text, sample
from lmexp.models.state import LanguageModel


class BusyError(LmexpError):
    """Too many requests wait already."""

    exit_code = 2


@dataclass(frozen=True)
class Event:
    """What has come of a text: a piece, or how it ended."""

    piece: str = ""
    finish_reason: str | None = None
    num_tokens: int = 0
    error: str | None = None


@dataclass(eq=False)
class Job:
    """A text that is asked for."""

    form: Form
    ids: Sequence[int]
    sampling: Sampling
    tell: Callable[[Event], None]
    deadline: float
    is_cancelled: bool = field(default=False, init=False)
    is_over: bool = field(default=False, init=False)

    def cancel(self) -> None:
        """Say that nobody waits for it any more."""
        self.is_cancelled = True


class Engine:
    """Writes texts, at most `max_batch` at once and `max_requests` with those that wait."""

    def __init__(
        self, model: LanguageModel, *, max_requests: int = 64, max_batch: int = 16, timeout_seconds: float = 120.0
    ) -> None:
        self.model = model
        self.max_requests, self.max_batch, self.timeout_seconds = max_requests, max_batch, timeout_seconds
        self._waiting: deque[Job] = deque()
        self._num_open = 0
        self._changed = threading.Condition()
        self._is_closed = False
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)
        self._thread.start()

    def submit(self, form: Form, ids: Sequence[int], sampling: Sampling, tell: Callable[[Event], None]) -> Job:
        """Hand in a text; `tell` is called, in the engine's thread, with each piece and then with the end.

        Raises:
            BusyError: too many wait already.
        """
        job = Job(form, ids, sampling, tell, time.monotonic() + self.timeout_seconds)
        with self._changed:
            if self._num_open >= self.max_requests:
                raise BusyError(f"{self.max_requests} texts are being written already; try again")
            self._num_open += 1
            self._waiting.append(job)
            self._changed.notify()
        return job

    def close(self) -> None:
        """End the thread, after what it writes now."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        while jobs := self._next():
            try:
                self._write(jobs)
            except Exception as error:  # nothing may end the thread, and whoever waits must hear of it
                for job in jobs:
                    if not job.is_over:
                        self._tell(job, Event(error=str(error) or type(error).__name__, finish_reason="error"))

    def _next(self) -> list[Job]:
        """Wait for the next request, and take those along that can be written with it; none when all is over."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._is_closed)
            if self._is_closed:
                return []
            first = self._waiting[0]
            fitting = [job for job in self._waiting if _way(job) == _way(first)][: self.max_batch]
            for job in fitting:
                self._waiting.remove(job)
            return fitting

    def _write(self, jobs: list[Job]) -> None:
        texts = [Text(job.form, job.ids, job.sampling, job.sampling.seed) for job in jobs]
        open_jobs = list(zip(jobs, texts, strict=True))
        _stop_late(open_jobs)
        open_jobs = [(job, text) for job, text in open_jobs if not self._told(job, text)]
        if not open_jobs:
            return
        longest = max(job.sampling.max_tokens for job, _ in open_jobs)
        sampling = replace(open_jobs[0][0].sampling, max_tokens=longest)
        with evaluating(self.model):
            for _ in sample(self.model, [text for _, text in open_jobs], sampling):
                _stop_late(open_jobs)
                open_jobs = [(job, text) for job, text in open_jobs if not self._told(job, text)]

    def _told(self, job: Job, text: Text) -> bool:
        """Tell what is new; return whether the text has ended."""
        is_over = text.finish_reason is not None
        if piece := text.take():
            self._tell(job, Event(piece))
        if is_over:
            self._tell(job, Event(finish_reason=text.finish_reason, num_tokens=len(text.tokens)))
        return is_over

    def _tell(self, job: Job, event: Event) -> None:
        if event.finish_reason is not None:
            job.is_over = True
            with self._changed:
                self._num_open -= 1
        job.tell(event)


def _way(job: Job) -> Sampling:
    """Return how tokens are chosen; what else a text is asked for does not keep it from being written with others."""
    return replace(job.sampling, seed=0, stop=(), max_tokens=1)


def _stop_late(jobs: Sequence[tuple[Job, Text]]) -> None:
    now = time.monotonic()
    for job, text in jobs:
        if text.finish_reason is None and (job.is_cancelled or now > job.deadline):
            text.finish("cancelled" if job.is_cancelled else "time")
