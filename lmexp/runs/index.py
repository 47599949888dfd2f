"""What is known of all runs below a folder, fast: a SQLite file that mirrors the run folders.

It is a cache: whatever is missing, changed or gone on disk is read again, and a file of another version, or one that
is damaged, is thrown away and built anew. Where it cannot be written, everything is read each time.
"""

import gc
import hashlib
import json
import math
import os
import re
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import yaml

from lmexp.config.pretrained import HFConfig
from lmexp.config.store import flat, identity_of
from lmexp.runs.folder import RunFolder, status_of
from lmexp.runs.labels import FILE as LABELS
from lmexp.runs.labels import read_labels

FILE = ".lmexp-index.sqlite"
VERSION = 2
FILES = ("run.json", "config.yaml", LABELS)
BRIEF: dict[str, Any] = {
    **dict.fromkeys(("id", "project", "name", "status", "heartbeat", "created", "error"), str),
    **dict.fromkeys(("data_fingerprint", "tokenizer_hash", "source_hash"), str),
    **dict.fromkeys(("seed", "step", "max_steps", "parameters"), int),
    **dict.fromkeys(("tokens", "flops", "seconds_trained"), int | float),
    "sweeps": list,
}
"""What a brief takes from run.json, where it is of this type: people edit these files."""
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass
class Entry:
    """A run as the index knows it. `brief` is what lists and comparisons need; the rest is read when asked for."""

    id: str
    """project/folder: what a person writes to mean this run."""
    brief: dict[str, Any]
    outputs: Path
    index: "Index | None" = None

    @cached_property
    def path(self) -> Path:
        """The folder."""
        return self.outputs / self.id

    @property
    def folder(self) -> RunFolder:
        """The run on disk."""
        return RunFolder(self.path)

    @property
    def title(self) -> str:
        """What lists show: the name a person gave, or the folder."""
        return self.brief["label"] or self.path.name

    @property
    def status(self) -> str:
        """Status, in which a run that gives no sign of life is cut off, and one that cannot be read is unreadable."""
        return "unreadable" if self.brief["problem"] else status_of(self.brief)

    @property
    def metrics(self) -> dict[str, float]:
        """The final and best metrics of the run; NaN where a metric was no finite number."""
        return self.brief["metrics"]

    @property
    def group(self) -> str:
        """Equal for runs that differ in their seed only."""
        return self.brief["group"]

    @cached_property
    def config(self) -> dict[str, Any]:
        """The config with dotted keys."""
        return self._details[0]

    @cached_property
    def record(self) -> dict[str, Any]:
        """The content of run.json."""
        return self._details[1]

    @property
    def row(self) -> dict[str, Any]:
        """Everything under one flat set of keys, for --json and for the names of columns."""
        record = {key: value for key, value in self.record.items() if key != "metrics"}
        return self.config | record | {key: read(self) for key, read in _KNOWN.items()} | self.metrics

    def get(self, key: str) -> Any:
        """Return what a key of `row` holds, None when it holds nothing; reads no more than it must."""
        if key in self.metrics:
            return self.metrics[key]
        value = _KNOWN[key](self) if key in _KNOWN else self.brief.get(key)
        return self.record.get(key, self.config.get(key)) if value is None else value

    @cached_property
    def _details(self) -> tuple[dict[str, Any], dict[str, Any]]:
        found = self.index.details(self.path) if self.index else None
        return found or _read_details(self.path)[:2]


_KNOWN: dict[str, Callable[[Entry], Any]] = {
    "run": lambda entry: entry.id,
    "path": lambda entry: str(entry.path),
    "name": lambda entry: entry.brief["label"] or entry.brief.get("name") or entry.path.name,
    "status": lambda entry: entry.status,
    "group": lambda entry: entry.group,
    "tags": lambda entry: entry.brief["tags"],
    "archived": lambda entry: entry.brief["archived"],
    "problem": lambda entry: entry.brief["problem"],
}


class Index:
    """The runs below a folder, read through the cache in it."""

    def __init__(self, outputs: str | Path) -> None:
        self.outputs = Path(outputs)
        self._file: str | Path = self.outputs / FILE if self.outputs.is_dir() else ":memory:"

    def entries(self) -> list[Entry]:
        """Return every run, the oldest first, as the folders are now."""
        while True:
            try:
                with _no_collection(), closing(self._open()) as database, database:
                    return self._entries(database)
            except sqlite3.OperationalError:  # read-only, full, or busy for long: go on without the file
                if self._file == ":memory:":
                    raise
                self._file = ":memory:"
            except sqlite3.DatabaseError:  # damaged, or no database at all
                try:
                    Path(self._file).unlink()
                except OSError:
                    self._file = ":memory:"

    def load(self, entries: Sequence[Entry]) -> None:
        """Read config and record of many runs at once."""
        if self._file == ":memory:":
            return
        try:
            rows = self._reader.execute("SELECT path, config, record FROM details").fetchall()
        except sqlite3.DatabaseError:
            return
        stored = {key: (config, record) for key, config, record in rows}
        for entry in entries:
            if entry.id in stored:
                entry.__dict__["_details"] = tuple(json.loads(text) for text in stored[entry.id])

    def details(self, path: Path) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """Return config and record of a run as the index has them."""
        if self._file == ":memory:":
            return None
        key = f"{path.parent.name}/{path.name}"
        try:
            row = self._reader.execute("SELECT config, record FROM details WHERE path = ?", (key,)).fetchone()
        except sqlite3.DatabaseError:
            return None
        return (json.loads(row[0]), json.loads(row[1])) if row else None

    @cached_property
    def _reader(self) -> sqlite3.Connection:
        return self._open()

    def _entries(self, database: sqlite3.Connection) -> list[Entry]:
        stored = dict(database.execute("SELECT path, stamp FROM runs"))
        stamps = dict(_stamps(self.outputs))
        gone = [(key,) for key in stored.keys() - stamps.keys()]
        for key, stamp in stamps.items():
            if stored.get(key) != stamp:
                self._store(database, key, stamp)
        for table in ("runs", "details") if gone else ():
            database.executemany(f"DELETE FROM {table} WHERE path = ?", gone)
        rows = database.execute("SELECT path, brief FROM runs ORDER BY created, path").fetchall()
        briefs = json.loads("[" + ",".join(brief for _, brief in rows) + "]")
        return [Entry(key, brief, self.outputs, self) for (key, _), brief in zip(rows, briefs, strict=True)]

    def _store(self, database: sqlite3.Connection, key: str, stamp: str) -> None:
        config, record, brief = _read_details(self.outputs / key)
        created = str(brief.get("created", ""))
        database.execute("INSERT OR REPLACE INTO runs VALUES (?, ?, ?, ?)", (key, stamp, created, _json(brief)))
        database.execute("INSERT OR REPLACE INTO details VALUES (?, ?, ?)", (key, _json(config), _json(record)))

    def _open(self) -> sqlite3.Connection:
        database = sqlite3.connect(self._file, timeout=10)
        try:
            version = database.execute("PRAGMA user_version").fetchone()[0]
            if version != VERSION:
                for (table,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
                    database.execute(f'DROP TABLE "{table}"')
                database.execute("CREATE TABLE runs (path TEXT PRIMARY KEY, stamp TEXT, created TEXT, brief TEXT)")
                database.execute("CREATE TABLE details (path TEXT PRIMARY KEY, config TEXT, record TEXT)")
                database.execute(f"PRAGMA user_version = {VERSION}")
                database.commit()
        except BaseException:
            database.close()
            raise
        return database


@contextmanager
def _no_collection() -> Iterator[None]:
    """Let the garbage collector rest: it would look through thousands of new entries again and again, for nothing."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def read_entry(path: Path) -> Entry:
    """Return a run that may lie anywhere, read from its folder."""
    config, record, brief = _read_details(path)
    entry = Entry(f"{path.resolve().parent.name}/{path.name}", brief, path.parent.parent)
    entry.__dict__["path"] = path
    entry.__dict__["_details"] = (config, record)
    return entry


def _stamps(outputs: Path) -> Iterator[tuple[str, str]]:
    """Yield project/folder of every run, with what changes when one of its files does."""
    for project in _folders(str(outputs)):
        for run in _folders(f"{outputs}/{project}"):
            stamp = []
            for name in FILES:
                try:
                    found = os.stat(f"{outputs}/{project}/{run}/{name}")
                    stamp.append(f"{found.st_mtime_ns} {found.st_size}")
                except OSError:
                    stamp.append("-")
            if stamp[0] != "-":
                yield f"{project}/{run}", ", ".join(stamp)


def _folders(path: str) -> list[str]:
    try:
        with os.scandir(path) as found:
            return [item.name for item in found if item.is_dir() and not item.name.startswith(".")]
    except OSError:
        return []


def _read_details(path: Path) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Return config, record and brief of a folder; what cannot be read is named in the brief."""
    values, config_problem = _read(path / "config.yaml", _parse_yaml)
    record, record_problem = _read(path / "run.json", json.loads)
    config, labels = flat(values), read_labels(path)
    metrics = record.get("metrics")
    brief = {key: record[key] for key, kind in BRIEF.items() if isinstance(record.get(key), kind)}
    brief |= {
        "metrics": {key: _number(value) for key, value in metrics.items()} if isinstance(metrics, dict) else {},
        "problem": record_problem or config_problem,
        "label": labels.name,
        "tags": list(dict.fromkeys([*_texts(config.get("logger.tags")), *labels.tags])),
        "archived": labels.archived,
        "task": config.get("task.name"),
        "group": _group(values, record),
    }
    return config, record, brief


def _read(path: Path, parse: Any) -> tuple[dict[str, Any], str | None]:
    try:
        values = parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        return {}, f"{path.name} cannot be read: {str(error).splitlines()[0]}"
    if not isinstance(values, dict):
        return {}, f"{path.name} holds no keys and values"
    return {str(key): value for key, value in values.items()}, None


def _parse_yaml(text: str) -> Any:
    """Return what a config.yaml holds. Runs share most of their blocks, and a block that was read is not read again."""
    try:
        blocks = [_parse_block(block) for block in re.split(r"^(?=[A-Za-z_])", text, flags=re.MULTILINE) if block]
        if all(isinstance(block, dict) for block in blocks):
            return {key: value for block in blocks for key, value in block.items()}
    except yaml.YAMLError:
        pass  # something that reaches over blocks: an alias, or a mistake that the whole text shows better
    return _Loader(text).get_single_data()


@lru_cache(maxsize=4096)
def _parse_block(text: str) -> Any:
    return _Loader(text).get_single_data()


def _group(config: dict[str, Any], record: dict[str, Any]) -> str:
    """Return 12 hexadecimal digits that are equal for runs of one experiment, whatever their seed."""
    identity = {key: value for key, value in identity_of(config).items() if key != "seed"}
    model, parent, start = config.get("model"), record.get("parent"), record.get("init_from")
    weights = model.get("name_or_path") if isinstance(model, dict) and model.get("name") == HFConfig.name else None
    more = {
        "data": record.get("data_fingerprint"),
        "tokenizer": record.get("tokenizer_hash"),
        "pretrained": weights,
        "parent": parent.get("step") if isinstance(parent, dict) else None,
        "init_from": start.get("weights") if isinstance(start, dict) else None,
    }
    text = json.dumps([identity, more], sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(errors="replace"), digest_size=6).hexdigest()


def _number(value: Any) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number and math.isfinite(value) else math.nan


def _texts(value: Any) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else []


def _json(value: Any) -> str:
    """Return JSON for the database; what YAML reads as a date becomes text, and half a surrogate stays escaped."""
    return json.dumps(value, default=str)
