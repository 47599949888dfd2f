"""One run folder: its files, its lock, its heartbeat (design section 3).

run.json is replaced as a whole, metrics.jsonl is appended to line by line; both survive kill -9 at any moment.
"""

import json
import os
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from lmexp.config.store import from_yaml, to_yaml
from lmexp.config.train import TrainConfig
from lmexp.errors import BusyError, RunError, StorageError

HEARTBEAT_SECONDS = 10.0
SECONDS_TO_LOCK = 1.0
"""Who only looks at a run holds it for a moment too."""


class RunFolder:
    """A run on disk."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._writing = threading.RLock()

    def __repr__(self) -> str:
        return f"RunFolder({str(self.path)!r})"

    @property
    def checkpoints(self) -> Path:
        """Folder of checkpoints."""
        return self.path / "checkpoints"

    @property
    def tokenizer(self) -> Path:
        """File of the tokenizer."""
        return self.path / "tokenizer.json"

    @property
    def labels(self) -> Path:
        """File with the names of the labels; runs that tell none have none."""
        return self.path / "labels.json"

    @property
    def label_names(self) -> tuple[str, ...]:
        """What the labels are called, in their order.

        Raises:
            RunError: the file is damaged.
        """
        try:
            names = json.loads(self.labels.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return ()
        except (OSError, ValueError) as error:
            raise RunError(f"{self.labels} cannot be read ({error}); copy it from an intact run folder") from None
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise RunError(f"{self.labels} does not name labels; copy it from an intact run folder")
        return tuple(names)

    @property
    def evaluations(self) -> Path:
        """Folder of what `lmexp evaluate` has measured."""
        return self.path / "evaluations"

    @property
    def architecture(self) -> Path:
        """File that says what a pretrained model is made of; models built here have none."""
        return self.path / "architecture.json"

    @property
    def config(self) -> TrainConfig:
        """The resolved config."""
        return from_yaml(self.path / "config.yaml")

    @property
    def record(self) -> dict[str, Any]:
        """The content of run.json, {} when there is none.

        Raises:
            RunError: run.json cannot be read.
        """
        path = self.path / "run.json"
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except (OSError, ValueError) as error:
            raise RunError(f"{path} cannot be read ({error})") from None

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl; a last line that a crash cut off is left out."""
        return _read_lines(self.path / "metrics.jsonl")

    @property
    def samples(self) -> list[dict[str, Any]]:
        """The texts generated along the way."""
        return _read_lines(self.path / "samples.jsonl")

    def create(self, config: TrainConfig) -> None:
        """Make the folder and write the config.

        Raises:
            StorageError: the disk is full or read-only.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            replace_file(self.path / "config.yaml", to_yaml(config))
        except OSError as error:
            raise storage_error(error, self.path) from None

    def update(self, **changes: Any) -> None:
        """Change keys of run.json; `metrics` are added to those that are there.

        Raises:
            StorageError: the disk is full or read-only.
        """
        with self._writing:
            record = self.record
            metrics = record.get("metrics", {}) | changes.pop("metrics", {})
            try:
                replace_file(self.path / "run.json", json.dumps(record | changes | {"metrics": metrics}, indent=1))
            except OSError as error:
                raise storage_error(error, self.path) from None

    def append(self, name: str, row: dict[str, Any]) -> None:
        """Add a line to metrics.jsonl or samples.jsonl; a disk that is full loses the line, not the run."""
        try:
            with open(self.path / name, "a", encoding="utf-8") as file:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
        except OSError as error:
            self.warn(f"{name}: a line could not be written ({error.strerror})")

    def cut_back(self, step: int) -> None:
        """Take out what was written after a step: it will be written again."""
        for name in ("metrics.jsonl", "samples.jsonl"):
            rows = _read_lines(self.path / name)
            if (self.path / name).is_file():
                lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows if row["step"] <= step]
                replace_file(self.path / name, "".join(lines))

    def warn(self, message: str) -> None:
        """Keep a warning in log.txt, as far as the disk allows."""
        try:
            with open(self.path / "log.txt", "a", encoding="utf-8") as file:
                file.write(f"{now()} warning: {message}\n")
        except OSError:
            pass

    @contextmanager
    def lock(self) -> Iterator[IO[str]]:
        """Hold the run for this process, and for those that are given the open file.

        Raises:
            BusyError: another process holds it; says which.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            file = open(self.path / "run.lock", "a+", encoding="utf-8")  # noqa: SIM115 - open for as long as it is held
        except OSError as error:
            raise storage_error(error, self.path) from None
        with file:
            if not lock_within(file, SECONDS_TO_LOCK):
                file.seek(0)
                raise BusyError(f"{self.path} is being trained by {file.read().strip() or 'another process'}")
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()} since {now()}")
            file.flush()
            yield file

    @contextmanager
    def heartbeat(self) -> Iterator[None]:
        """Keep the time in run.json fresh, so that a reader knows a dead run."""
        stop = threading.Event()

        def beat() -> None:
            while not stop.wait(HEARTBEAT_SECONDS):
                try:
                    self.update(heartbeat=now())
                except (StorageError, RunError) as error:
                    self.warn(str(error))

        thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


def require_idle(run: RunFolder) -> None:
    """Raise when a process is training in a folder.

    Raises:
        RunError: says which process.
    """
    with run.lock():
        pass


def delete(run: RunFolder) -> None:
    """Remove a run from the disk; it is out of sight at once, also when removing it takes long or is cut off.

    Raises:
        RunError: it is being trained.
        StorageError: the disk does not allow it.
    """
    require_idle(run)
    gone = run.path.with_name(f".deleted-{run.path.name}-{os.getpid()}")
    try:
        run.path.rename(gone)
        shutil.rmtree(gone)
    except OSError as error:
        raise StorageError(f"{error.filename or run.path}: {error.strerror or error}") from None


def status_of(record: dict[str, Any]) -> str:
    """Return the status of a run; one that no longer gives a sign of life is called cut off."""
    status = record.get("status")
    if status != "running":
        return status if isinstance(status, str) else "unknown"
    try:
        beat = datetime.fromisoformat(record["heartbeat"]).timestamp()
    except (KeyError, TypeError, ValueError, OverflowError):
        return "cut off"
    return "running" if time.time() - beat < 6 * HEARTBEAT_SECONDS else "cut off"


def now() -> str:
    """Return the time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def replace_file(path: Path, text: str) -> None:
    """Write a file so that a reader, or a crash, sees the old one or the new one."""
    part = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.part")
    try:
        with open(part, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except (OSError, ValueError):
        part.unlink(missing_ok=True)
        raise


def storage_error(error: OSError, path: Path) -> StorageError:
    """Return what to tell a person about a disk that cannot be written."""
    return StorageError(
        f"{error.filename or path}: {error.strerror or error}; free some space or choose another output_dir"
    )


def _read_lines(path: Path) -> list[dict[str, Any]]:
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        return []
    try:
        return json.loads(f"[{','.join(line for line in lines if line.strip())}]")
    except ValueError:  # a line is damaged: the others count
        pass
    rows = []
    for line in lines:
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows


def lock_within(file: IO[str], seconds: float) -> bool:
    """Return whether an open file could be locked for this process within some seconds."""
    end = time.monotonic() + seconds
    while not _try_lock(file):
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def _try_lock(file: IO[str]) -> bool:
    try:
        import fcntl
    except ImportError:  # Windows: a second start is not noticed there
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
