"""Training in a process of its own, and watching over it. Nothing here imports torch.

Ranks, and trials of a sweep, are children that may crash, hang or be killed without taking anything with them. A trial
on one device is forked from a server that has imported torch and Lightning already, which saves seconds a trial; the
server trains nothing itself, so that a fork finds neither threads nor a device in use.
"""

import contextlib
import ctypes
import faulthandler
import multiprocessing
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.context import ForkServerProcess
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import IO, Any, Protocol

from lmexp.runs import RunFolder

POLL_SECONDS = 0.02
STOPS = (signal.SIGTERM, signal.SIGINT)
ORPHAN_SECONDS = 60.0
"""What a trial whose worker was killed may take to save a checkpoint."""


class Child(Protocol):
    """A process that trains."""

    @property
    def pid(self) -> int: ...

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal; None while it runs."""


Start = Callable[[RunFolder, int, IO[str]], Child]
"""From (run, devices, the open lock of the run) to the child that trains it."""
Watch = Callable[[RunFolder, Child], None]
"""Called again and again while a child runs."""


def start_process(run: RunFolder, devices: int, lock: IO[str], *, output: IO[str] | None = None) -> Child:
    """Start one process a device; they hold the lock too, so that a run stays held until the last of them has ended."""
    from lmexp.training.start import usable_cores

    target = ["-m", "lmexp.training", str(run.path)]
    if devices > 1:
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(devices)]
        target = [*launcher, "--max_restarts", "0", *target]
    hidden = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "NODE_RANK")
    environment = {key: value for key, value in os.environ.items() if key not in hidden}
    environment.setdefault("OMP_NUM_THREADS", str(max(1, usable_cores() // devices)))
    return subprocess.Popen(
        [sys.executable, *target],
        env=environment,
        pass_fds=(lock.fileno(),),
        stdout=output,
        stderr=output,
        preexec_fn=die_with_parent,
        start_new_session=True,
    )


class Server:
    """A process that has loaded what training needs, and forks a child for each run.

    The environment of this process as it is now (threads, devices) is that of every child.
    """

    def __init__(self) -> None:
        if multiprocessing.get_start_method(allow_none=True) not in (None, *multiprocessing.get_all_start_methods()):
            multiprocessing.set_start_method("forkserver", force=True)  # joblib's own way means nothing to a child
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(["lmexp.training.preload"])

    def start(self, run: RunFolder, devices: int, lock: IO[str]) -> Child:
        """Start a run; what it says goes to its log.txt."""
        if devices > 1:
            with open(run.path / "log.txt", "a", encoding="utf-8") as output:
                return start_process(run, devices, lock, output=output)
        arguments = (str(run.path), _Shared(lock.fileno()), os.getpid())
        process = self.context.Process(target=_train, args=arguments, daemon=False)
        with _main_module_left_out():
            process.start()
        return _Forked(process)


class _Shared:
    """An open file that goes to the child with the request to fork it."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def __reduce__(self) -> Any:
        return _received, (DupFd(self.descriptor),)


def _received(duplicate: Any) -> _Shared:
    return _Shared(duplicate.detach())


class _Forked:
    def __init__(self, process: ForkServerProcess) -> None:
        self.process = process

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    def poll(self) -> int | None:
        return self.process.exitcode


@contextmanager
def _main_module_left_out() -> Iterator[None]:
    """Keep the child from importing the program that started it; it knows its function by the name of the module."""
    main: Any = sys.modules["__main__"]
    spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
    main.__spec__ = None
    if file is not None:
        del main.__file__
    try:
        yield
    finally:
        main.__spec__ = spec
        if file is not None:
            main.__file__ = file


def _train(path: str, lock: _Shared, worker: int) -> None:
    """Be the child: train the run in a folder and leave with its exit code; the lock is held as long as it lives."""
    os.setsid()
    for stop in STOPS:  # blocked until StopSignals takes them; when that is over, only the end is to be written
        signal.signal(stop, lambda *_: None)
    threading.Thread(target=_end_with, args=(worker,), name="end with the worker", daemon=True).start()
    log = os.open(Path(path) / "log.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    for number in (1, 2):
        os.dup2(log, number)
    faulthandler.enable()
    from lmexp.training.__main__ import train

    code = train(RunFolder(Path(path)))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _end_with(worker: int) -> None:
    """Stop this process when the worker that asked for it has died; the server that it was forked from may live on.

    A trial that hangs does not stop by a signal, and would hold its run for ever: where it hangs is written to log.txt.
    """
    if hasattr(os, "pidfd_open"):
        with contextlib.suppress(ProcessLookupError):
            select.select([os.pidfd_open(worker)], [], [])
    else:
        with contextlib.suppress(ProcessLookupError):
            while True:
                os.kill(worker, 0)
                time.sleep(1.0)
    os.kill(os.getpid(), signal.SIGTERM)
    faulthandler.dump_traceback_later(ORPHAN_SECONDS, exit=True)


def wait(run: RunFolder, child: Child, watch: Watch | None = None) -> int:
    """Return the exit code of a child once it has ended; signals to this process are handed on."""

    def forward(number: int, frame: Any) -> None:
        tell(child, number)
        before = handlers[number]
        if callable(before) and before is not signal.default_int_handler:
            before(number, frame)

    handlers: dict[int, Any] = {number: signal.signal(number, forward) for number in STOPS}
    try:
        while (code := child.poll()) is None:
            if watch is not None:
                watch(run, child)
            time.sleep(POLL_SECONDS)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return code


def tell(child: Child, number: int) -> None:
    """Send a child a signal, if it is still there."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(child.pid, number)


def kill(child: Child) -> None:
    """End a child and all that it has started, at once."""
    for end in (os.killpg, os.kill):  # it may not have a group of its own yet
        with contextlib.suppress(ProcessLookupError, PermissionError):
            end(child.pid, signal.SIGKILL)


def resident_bytes(child: Child) -> int:
    """Return the memory that a child and what it has started hold now; 0 where the system does not say (not Linux)."""
    total, page = 0, os.sysconf("SC_PAGE_SIZE")
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            session = int((folder / "stat").read_text().rpartition(")")[2].split()[3])
            if session == child.pid:
                resident, shared = map(int, (folder / "statm").read_text().split()[1:3])
                total += (resident - shared) * page
    return total


def die_with_parent() -> None:
    """Ask Linux to stop this process when the one that started it dies."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def cause_of(code: int) -> str:
    """Return what an exit code says about how a process died.

    Example:
        >>> cause_of(-11)
        'it crashed (SIGSEGV)'
    """
    if code >= 0:
        return f"exit code {code}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    if -code == signal.SIGKILL:
        return f"it was killed ({name}): most likely the system had no memory left"
    return f"it crashed ({name})"
