"""What each stage does, as jobs of datatrove's steps and ours: one function a stage, named as the stage is."""

from pathlib import Path
from typing import Any

from datatrove.pipeline.dedup import MinhashDedupBuckets, MinhashDedupCluster
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
)
from datatrove.pipeline.writers import JsonlWriter

from lmexp.config.corpus import PrepareConfig
from lmexp.corpus import splitting, steps
from lmexp.corpus.intake import Dealt, Kept, Plain, Read
from lmexp.corpus.sources import Input, is_read
from lmexp.corpus.stages import Job, Stage, is_large, shares


def extract(stage: Stage, before: Stage | None, config: PrepareConfig, inputs: list[Input], tasks: int) -> list[Job]:
    readable = [one for one in inputs if is_read(one)]
    read = Read(config.corpus, shares(readable, tasks), stage.folder)
    plain = [Plain(config.corpus.extract, stage.folder), *_written(stage)]
    if not any(map(is_large, readable)):
        return [_job(stage, [read, *plain], tasks)]
    # not packed: a file of each task is open at once, and zstd would take 25 MB for each
    deal = JsonlWriter(str(stage.dealt), "${task}/${rank}.jsonl", compression=None)
    return [_job(stage, [read, deal], tasks, "dealt"), _job(stage, [Dealt(stage.dealt), *plain], tasks)]


def clean(stage: Stage, before: Stage, config: PrepareConfig, inputs: list[Input], tasks: int) -> list[Job]:
    keys = config.corpus.clean
    language = {"language": keys.quality_language}
    filters = [
        (keys.gopher_repetition, GopherRepetitionFilter, language, "gopher_repetition"),
        (keys.gopher_quality, GopherQualityFilter, language, "gopher_quality"),
        (keys.c4, C4QualityFilter, language, "c4"),
        (keys.fineweb, FineWebQualityFilter, language, "fineweb"),
    ]
    chosen = [
        build(exclusion_writer=_dropped(stage, name, config), **options) for on, build, options, name in filters if on
    ]
    bounds = steps.Bounds(keys, _dropped(stage, "bounds", config))
    return [_job(stage, [Kept(before.documents), steps.Clean(keys), bounds, *chosen, *_written(stage)], tasks)]


def deduplicate(stage: Stage, before: Stage, config: PrepareConfig, inputs: list[Input], tasks: int) -> list[Job]:
    keys, folder = config.corpus.deduplicate, stage.folder
    settings = steps.minhash(keys)
    buckets = MinhashDedupBuckets(str(folder / "signatures"), str(folder / "pairs"), config=settings)
    clusters = MinhashDedupCluster(str(folder / "pairs"), str(folder / "clusters"), settings, save_cluster_id=True)
    distinct = steps.Distinct(folder / "clusters", _dropped(stage, "duplicates", config))
    return [
        _job(stage, [Kept(before.documents), steps.Signature(folder / "signatures", keys)], tasks, "signatures"),
        _job(stage, [buckets], settings.num_buckets, "pairs"),
        _job(stage, [clusters], 1, "clusters"),
        _job(stage, [Kept(before.documents), distinct, *_written(stage)], tasks),
    ]


def redact(stage: Stage, before: Stage, config: PrepareConfig, inputs: list[Input], tasks: int) -> list[Job]:
    return [_job(stage, [Kept(before.documents), steps.Redact(config.corpus.redact), *_written(stage)], tasks)]


def decontaminate(stage: Stage, before: Stage, config: PrepareConfig, inputs: list[Input], tasks: int) -> list[Job]:
    leaks = steps.Decontaminate(config.corpus.decontaminate, _dropped(stage, "leaks", config))
    return [_job(stage, [Kept(before.documents), leaks, *_written(stage)], tasks)]


def words(stage: Stage, before: Stage, config: PrepareConfig, inputs: list[Input], tasks: int) -> list[Job]:
    return [_job(stage, [Kept(before.documents), steps.Words(config.corpus.words), *_written(stage)], tasks)]


def split(stage: Stage, before: Stage, config: PrepareConfig, inputs: list[Input], tasks: int) -> list[Job]:
    borders = splitting.Borders(before.tally, stage.folder, config.corpus.split)
    parts = splitting.Split(stage.folder, stage.documents)
    return [
        _job(stage, [borders], 1, "borders"),
        _job(stage, [Kept(before.documents), parts, splitting.Tally(stage.tally)], tasks),
    ]


def _job(stage: Stage, steps: list[Any], tasks: int, name: str = "documents") -> Job:
    return Job(f"{stage.name}-{name}", stage.folder / "logs" / name, steps, tasks)


def _written(stage: Stage) -> list[Any]:
    return [splitting.Tally(stage.tally), JsonlWriter(str(stage.documents), "${rank}.jsonl", compression="zstd")]


def _dropped(stage: Stage, step: str, config: PrepareConfig) -> steps.Dropped:
    return steps.Dropped(Path(stage.folder), step, whole=config.keep_dropped)
