"""The steps that bring documents into a pipeline: from their files, and from what a stage before has written."""

import json
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from datatrove.data import Document
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.readers import JsonlReader

from lmexp.config.corpus import CorpusConfig, ExtractConfig
from lmexp.config.schema import build
from lmexp.corpus.readers import Reader
from lmexp.corpus.sources import Input
from lmexp.corpus.stages import is_large
from lmexp.errors import DataError

Documents = Iterator[Document]
PROBLEMS_KEPT = 100
CHARACTERS_IN_TURN = 100_000


class Problems:
    """What could not be read, the first hundred things of each file."""

    def __init__(self) -> None:
        self.rows: list[dict[str, str]] = []
        self._counts: Counter[tuple[str, str]] = Counter()

    def add(self, source: str, file: str, problem: str) -> None:
        """Keep a problem, if there are not too many of its file."""
        self._counts[source, file] += 1
        if self._counts[source, file] <= PROBLEMS_KEPT:
            self.rows.append({"source": source, "file": file, "problem": problem})

    def write(self, path: Path) -> None:
        """Write them where the card finds them."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.rows, ensure_ascii=False))


class Read(PipelineStep):
    """Documents of the inputs of a task, each with the task that goes on with it: those of a large input go round.

    What is wrong with an input is written down, and the rest goes on.
    """

    name, type = "read", "lmexp"

    def __init__(self, corpus: CorpusConfig, inputs: list[tuple[int, Input]], folder: Path) -> None:
        super().__init__()
        self.corpus, self.inputs, self.folder = corpus, inputs, folder

    def run(self, data: Documents | None = None, rank: int = 0, world_size: int = 1) -> Documents:
        source, problems = build(self.corpus), Problems()
        try:
            for one in (one for task, one in self.inputs if task == rank):
                size = 0
                for document in self._read(source, one, problems):
                    turn = size // CHARACTERS_IN_TURN if is_large(one) else 0
                    size += len(document.text)
                    document.metadata["task"] = f"{(rank + turn) % world_size:05d}"
                    yield document
        finally:
            source.close()
        problems.write(self.folder / "problems" / f"read-{rank:05d}.json")

    def _read(self, source: Any, one: Input, problems: Problems) -> Documents:
        report = partial(problems.add, one.source, one.name)
        try:
            for found in source.read(one, report):
                place = f"{one.source}/{one.name}" + (f", {found.place}" if found.place else "")
                metadata = {"source": one.source, "file": one.name, **found.metadata}
                if found.namespaces is not None:
                    metadata["namespaces"] = found.namespaces
                yield Document(text=found.text, id=place, metadata=metadata)
        except DataError as error:
            report(str(error))


class Plain(PipelineStep):
    """Articles of MediaWiki without their markup; all else is plain text when it is read."""

    name, type = "plain", "lmexp"

    def __init__(self, config: ExtractConfig, folder: Path) -> None:
        super().__init__()
        self.config, self.folder = config, folder

    def run(self, data: Documents, rank: int = 0, world_size: int = 1) -> Documents:
        reader, problems = Reader(self.config), Problems()
        try:
            for document in data:
                del document.metadata["task"]
                namespaces = document.metadata.pop("namespaces", None)
                if namespaces is not None:
                    place = document.id.rpartition(", ")[2]
                    report = partial(problems.add, document.metadata["source"], document.metadata["file"])
                    document.text = reader.article(place, document.text, namespaces, report)
                if document.text:
                    yield document
        finally:
            reader.close()
        problems.write(self.folder / "problems" / f"{self.name}-{rank:05d}.json")


class Kept(JsonlReader):
    """Reads the documents that the same task has written in the stage before."""

    def __init__(self, folder: Path) -> None:
        super().__init__(str(folder), compression="zstd", add_file_path=False)

    def run(self, data: Documents | None = None, rank: int = 0, world_size: int = 1) -> Documents:
        name = f"{rank:05d}.jsonl.zst"
        if self.data_folder.exists(name):  # else nothing of what the task read was kept
            yield from self.read_files_shard([name])


class Dealt(JsonlReader):
    """Reads the documents that all tasks have dealt to this one."""

    def __init__(self, folder: Path) -> None:
        super().__init__(str(folder), compression=None, add_file_path=False)

    def run(self, data: Documents | None = None, rank: int = 0, world_size: int = 1) -> Documents:
        yield from self.read_files_shard(sorted(self.data_folder.list_files(f"{rank:05d}", recursive=False)))
