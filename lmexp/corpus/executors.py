"""Where jobs run: datatrove's executors, on this machine, on a Slurm cluster, or on Ray."""

import contextlib
import copy
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import multiprocess
from datatrove.executor.local import LocalPipelineExecutor
from loguru import logger
from multiprocess import forkserver

from lmexp.config.corpus import Executor, PrepareConfig
from lmexp.corpus.stages import Job
from lmexp.errors import ConfigError, MissingPackageError, Problem, StorageError

POLL_SECONDS = 0.2


class Local(LocalPipelineExecutor):
    """Processes of this machine, which say what they do in the log of the job and not on the terminal.

    datatrove's own `run` also starts a process that shares a queue, and logs here: on Ctrl-C at a bad moment the
    process was waited for without end, or the lock of the log was never given back.
    """

    pipeline: list[Any]

    def run(self) -> None:
        """Run every task that is not done."""
        ranks = self.get_incomplete_ranks()
        if self.workers == 1:
            pipeline = self.pipeline
            for rank in ranks:
                self.pipeline = copy.deepcopy(pipeline)  # a step may keep something of a task
                self._run_for_rank(rank)
        elif ranks:
            with multiprocess.get_context(self.start_method).Pool(self.workers) as pool:
                for _ in pool.imap_unordered(self._run_for_rank, ranks):
                    pass

    def _run_for_rank(self, rank: int, local_rank: int = 0, node_rank: int = -1) -> Any:
        with silent():
            return super()._run_for_rank(rank, local_rank, node_rank)


def run(job: Job, config: PrepareConfig, progress: Callable[[int], None]) -> None:
    """Run a job here or on Ray until all its tasks are done; `progress` is told how many are.

    Raises:
        StorageError: the disk is full, or cannot be written.
    """
    executor = _ray(job, config) if config.executor is Executor.ray else _local(job, config)
    finished = threading.Event()
    watch = threading.Thread(target=_watch, args=(executor, finished, progress), daemon=True)
    watch.start()
    try:
        with silent() if config.executor is Executor.ray else contextlib.nullcontext():
            executor.run()
    except KeyboardInterrupt:
        for child in multiprocess.active_children():  # of a pool that was not yet whole
            child.kill()
        raise
    except OSError as error:
        raise StorageError(f"{error.filename or job.folder}: {error.strerror or error}") from None
    finally:
        finished.set()
        watch.join()


def submit(jobs: list[Job], config: PrepareConfig) -> list[str]:
    """Hand the jobs to Slurm, each to begin when the one before it has ended well; return their numbers.

    Raises:
        ConfigError: there is no Slurm here.
    """
    from datatrove.executor.slurm import SlurmPipelineExecutor

    if shutil.which("sbatch") is None:
        raise ConfigError([Problem("executor", "slurm needs its command sbatch, which is not on this machine")])
    python = f'export PATH="{Path(sys.executable).parent}:$PATH"'
    before: Any = None
    submitted: list[str] = []
    for job in jobs:
        executor = SlurmPipelineExecutor(
            job.steps,
            tasks=job.tasks,
            workers=min(config.num_workers, job.tasks) if config.workers else -1,
            time=config.slurm.time,
            partition=config.slurm.partition,
            mem_per_cpu_gb=config.slurm.mem_per_cpu_gb,
            env_command=config.slurm.env_command or python,
            qos=config.slurm.qos,
            job_name=f"lmexp-{job.name}",
            logging_dir=str(job.folder),
            depends=before,
            mail_type="NONE",
        )
        with silent():
            executor.run()
        submitted.append(str(executor.job_id))
        before = executor
    return submitted


def _local(job: Job, config: PrepareConfig) -> Any:
    _start_server()
    workers = min(config.num_workers, job.tasks)
    return Local(job.steps, tasks=job.tasks, workers=workers, logging_dir=str(job.folder), start_method="forkserver")


def _start_server() -> None:
    """Start the process that workers are forked from, with what they import; Ctrl-C is for this process alone.

    What workers have to say is in the logs of their tasks; the terminal would only show how they end on Ctrl-C.
    """
    multiprocess.get_context("forkserver").set_forkserver_preload(["lmexp.corpus.splitting"])
    if threading.current_thread() is not threading.main_thread():
        return
    before, terminal = signal.signal(signal.SIGINT, signal.SIG_IGN), os.dup(2)
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
            forkserver.ensure_running()
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)
        signal.signal(signal.SIGINT, before)


def _ray(job: Job, config: PrepareConfig) -> Any:
    try:
        import ray  # noqa: F401
        from datatrove.executor.ray import RayPipelineExecutor
    except ModuleNotFoundError:
        raise MissingPackageError("ray", "ray") from None
    with silent():
        return RayPipelineExecutor(
            job.steps, tasks=job.tasks, workers=config.num_workers, logging_dir=str(job.folder), mem_per_cpu_gb=1
        )


def _watch(executor: Any, finished: threading.Event, progress: Callable[[int], None]) -> None:
    while not finished.wait(POLL_SECONDS):
        progress(executor.world_size - len(executor.get_incomplete_ranks()))


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Keep loguru and tqdm off the terminal."""
    logger.remove()
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
        try:
            yield
        finally:
            logger.remove()
