"""From a config to a corpus: what is there already stays, what is missing is made, and a card says what was done.

A corpus is a folder: data/ with train-*.jsonl, val-*.jsonl and test-*.jsonl (a document a line: id, text, source, file
and what else is known), dropped/ with what was left out and why, README.md and card.html (the card), corpus.json (the
same for programs), and .stages/ from which the next run takes what has not changed.
"""

import fcntl
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lmexp.config.corpus import Executor, PrepareConfig
from lmexp.config.schema import build
from lmexp.corpus.redaction import redact
from lmexp.corpus.sources import Input
from lmexp.corpus.stages import Job, Stage, jobs_of, plan
from lmexp.errors import BusyError, DataError, MissingPackageError, StorageError

MANIFEST = "corpus.json"


def prepare(config: PrepareConfig, *, say: Callable[[str], None] = print) -> dict[str, Any]:
    """Return what corpus.json says of the corpus, made now or there already.

    Raises:
        DataError: nothing can be read, or nothing is left.
        StorageError: the folder cannot be written.
        BusyError: another process makes the corpus in this folder.
    """
    assert config.out is not None
    out = Path(config.out).expanduser()
    try:
        out.mkdir(parents=True, exist_ok=True)
        with _locked(out):
            return _prepare(config, out, say)
    except OSError as error:
        raise StorageError(f"{error.filename or out}: {error.strerror or error}") from None


def _prepare(config: PrepareConfig, out: Path, say: Callable[[str], None]) -> dict[str, Any]:
    if config.corpus.redact.audit and find_spec("presidio_analyzer") is None:
        raise MissingPackageError("presidio-analyzer", "audit")  # now, and not when all else is done
    source: Any = build(config.corpus)
    inputs: list[Input] = source.inputs()
    licenses = {name: source.license_of(name) for name in dict.fromkeys(one.source for one in inputs)}
    stages = _planned(config, inputs, out)
    key = stages[-1].folder.name
    said = {"licenses": licenses, "audited": config.corpus.redact.audit}  # what the card alone depends on
    there = _manifest(out)
    if there and there["key"] == key and said.items() <= there.items() and _is_whole(out, there):
        say(f"{out}: nothing has changed")
        return there
    from lmexp.corpus.card import Card, Finish

    finish = Finish(Card(config, inputs, licenses, stages, out))
    if config.executor is Executor.slurm:
        from lmexp.corpus.executors import submit

        jobs = [job for _, jobs in jobs_of(stages, config, inputs) for job in jobs]
        card = out.resolve() / ".stages" / f"card-{key}"
        shutil.rmtree(card, ignore_errors=True)  # it is written anew, whatever was done before
        numbers = submit([*jobs, Job("card", card, [finish], 1)], config)
        say(f"{out}: {len(numbers)} jobs are with Slurm, the last is {numbers[-1]}")
        return {}
    _run(stages, config, inputs, say)
    finish.run()
    manifest = _manifest(out)
    assert manifest is not None
    if not manifest["documents"]:
        read = manifest["stages"][0]["documents"]
        what = f"all {read:,} documents were dropped" if read else "no document could be read"
        first = next(iter(manifest["problems"]), None)
        because = f" ({first['file']} {first['problem']})" if first and not read else ""
        raise DataError(f"{out}: {what}{because}; {out / 'README.md'} says why")
    return manifest


def _planned(config: PrepareConfig, inputs: list[Input], out: Path) -> list[Stage]:
    from importlib.metadata import PackageNotFoundError

    try:
        return plan(config, inputs, out.resolve() / ".stages")
    except PackageNotFoundError as error:
        raise MissingPackageError(str(error.name), "corpus") from None


def _run(stages: list[Stage], config: PrepareConfig, inputs: list[Input], say: Callable[[str], None]) -> None:
    from lmexp.corpus.executors import run

    for stage, jobs in jobs_of(stages, config, inputs):
        done = stage.folder / "seconds"
        if done.is_file():
            say(f"{stage.name:<13} as before")
            continue
        started = time.monotonic()
        with _bar(stage.name, sum(job.tasks for job in jobs)) as advance:
            before = 0
            for job in jobs:
                run(job, config, lambda count, before=before: advance(before + count))  # type: ignore[misc]
                before += job.tasks
        seconds = time.monotonic() - started
        documents, size = counts_of(stage)
        say(f"{stage.name:<13} {documents:>9,} documents {size / 1e6:>10,.2f} MB {seconds:>8.1f} s")
        done.write_text(f"{seconds:.2f}")


def counts_of(stage: Stage) -> tuple[int, int]:
    """Return the documents and the bytes that a stage has given."""
    tallies = [json.loads(path.read_text()) for path in stage.tally.glob("*.json")]
    return tuple(sum(sum(tally[key].values()) for tally in tallies) for key in ("documents", "bytes"))  # type: ignore[return-value]


@contextmanager
def _bar(name: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show how far a stage is, where somebody looks."""
    if not sys.stderr.isatty():
        yield lambda count: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description:<13}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(file=sys.__stderr__), transient=True) as progress:
        task = progress.add_task(name, total=total)
        yield lambda count: progress.update(task, completed=count)


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    with open(out / ".lock", "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BusyError(f"{out}: another lmexp prepare is at work in this folder") from None
        yield


def _manifest(out: Path) -> dict[str, Any] | None:
    try:
        manifest: dict[str, Any] = json.loads((out / MANIFEST).read_text())
    except (OSError, ValueError):
        return None
    return manifest


def _is_whole(out: Path, manifest: dict[str, Any]) -> bool:
    """Return whether the text is there as it was written."""
    files = {name: size for split in manifest["splits"].values() for name, size in split["files"].items()}
    there = {f"data/{path.name}": path.stat().st_size for path in (out / "data").glob("*")}
    return files == there and (out / "README.md").is_file() and (out / "card.html").is_file()


def publish(stages: list[Stage], out: Path, kinds: list[str]) -> None:
    """Put the text and what was dropped in their places, and forget the stages of other configs.

    What was dropped before the stage that redacts is redacted here.
    """
    last = stages[-1]
    if last.documents.is_dir():
        shutil.rmtree(out / "data", ignore_errors=True)
        last.documents.rename(out / "data")
        shutil.rmtree(last.folder)  # so that the split is made anew should its text be lost
    (out / "data").mkdir(exist_ok=True)
    shutil.rmtree(out / "dropped", ignore_errors=True)
    for stage in stages:
        shutil.rmtree(stage.dealt, ignore_errors=True)
        for path in sorted((stage.folder / "dropped").glob("*/*.jsonl")):
            (out / "dropped").mkdir(exist_ok=True)
            with open(out / "dropped" / f"{stage.name}-{path.parent.name}-{path.name}", "w", encoding="utf-8") as file:
                for row in rows_of(path):
                    row["text"] = redact(row["text"], kinds)[0]
                    file.write(json.dumps(row, ensure_ascii=False) + "\n")
    keep = {stage.folder.name for stage in stages}
    for folder in (out / ".stages").iterdir():
        if folder.name not in keep and not folder.name.startswith("card-"):
            shutil.rmtree(folder, ignore_errors=True)


def rows_of(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a file of JSON lines that we have written."""
    with open(path, encoding="utf-8") as file:
        yield from map(json.loads, file)


def shown(manifest: dict[str, Any], config: PrepareConfig) -> str:
    """Return what a corpus is, for a terminal."""
    parts = ", ".join(f"{split} {one['documents']:,}" for split, one in manifest["splits"].items())
    lines = [f"{config.out}: {manifest['documents']:,} documents, {manifest['bytes'] / 1e6:,.2f} MB ({parts})"]
    if manifest["num_problems"]:
        lines.append(f"  {manifest['num_problems']:,} things could not be read: see the card")
    lines += [
        f"  card  {config.out}/README.md, {config.out}/card.html",
        "next",
        f"  lmexp train data=text data.path={config.out}",
    ]
    return "\n".join(lines)
