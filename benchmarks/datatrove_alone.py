"""The steps of `lmexp prepare corpus=files` with datatrove alone, as its own examples are: ours is timed beside them.

    python -m benchmarks.datatrove_alone IN OUT

Files of JSON lines, and a MediaWiki dump that our own reader takes apart, for datatrove has none. What datatrove has is
its own: FTFYFormatter, and MinHash with its word tokenizer. Language and the other kinds of personal data,
which it has not or only with a download, are our functions, so that both sides do the same work.
"""

import sys
from pathlib import Path
from typing import Any

from datatrove.data import Document
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.dedup import MinhashConfig, MinhashDedupBuckets, MinhashDedupCluster, MinhashDedupFilter
from datatrove.pipeline.dedup import MinhashDedupSignature as Signature
from datatrove.pipeline.formatters import FTFYFormatter
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import JsonlWriter
from datatrove.utils.hashing import HashConfig

from lmexp.config.corpus import KINDS, CleanConfig, ExtractConfig
from lmexp.corpus.cleaning import clean, language_of
from lmexp.corpus.readers import Reader
from lmexp.corpus.redaction import redact

MINHASH = MinhashConfig(hash_config=HashConfig(hash_fc="sha1"))  # its default does not work with xxhash 4


def dump(data: Any, rank: int = 0, world_size: int = 1) -> Any:
    """Yield what came before, and the articles of the dump."""
    yield from data or ()
    if rank == 0:
        for one in Reader(ExtractConfig()).read(Path(sys.argv[1]) / "dump.xml", print):
            yield Document(text=one.text, id=one.place, metadata={})


def rest_of_clean(data: Any, rank: int = 0, world_size: int = 1) -> Any:
    """Yield documents in Unicode's normal form, without boilerplate, with their language."""
    config = CleanConfig(mojibake=False)
    for document in data:
        document.text = clean(document.text, config)
        document.metadata["language"] = language_of(document.text)[0]
        yield document


def redacted(data: Any, rank: int = 0, world_size: int = 1) -> Any:
    """Yield documents without personal data."""
    for document in data:
        document.text = redact(document.text, KINDS)[0]
        yield document


def main() -> int:
    """Run the pipeline, stage by stage, two processes at once."""
    source, out = sys.argv[1], Path(sys.argv[2])
    tasks = sum(path.suffix == ".jsonl" for path in Path(source).iterdir())
    stages: list[tuple[str, list[Any], int]] = [
        ("extract", [JsonlReader(source, glob_pattern="*.jsonl"), dump, _writer(out / "extract")], tasks),
        ("clean", [_reader(out / "extract"), FTFYFormatter(), rest_of_clean, _writer(out / "clean")], tasks),
        ("signatures", [_reader(out / "clean"), Signature(str(out / "signatures"), MINHASH)], tasks),
        ("pairs", [MinhashDedupBuckets(str(out / "signatures"), str(out / "pairs"), config=MINHASH)], 14),
        ("clusters", [MinhashDedupCluster(str(out / "pairs"), str(out / "clusters"), MINHASH)], 1),
        (
            "distinct",
            [_reader(out / "clean"), MinhashDedupFilter(str(out / "clusters")), _writer(out / "distinct")],
            tasks,
        ),
        ("final", [_reader(out / "distinct"), redacted, JsonlWriter(str(out / "final"), compression=None)], tasks),
    ]
    for name, steps, count in stages:
        LocalPipelineExecutor(steps, tasks=count, workers=2, logging_dir=str(out / "logs" / name)).run()
    return 0


def _reader(folder: Path) -> JsonlReader:
    return JsonlReader(str(folder), compression="zstd")


def _writer(folder: Path) -> JsonlWriter:
    return JsonlWriter(str(folder), "${rank}.jsonl", compression="zstd")


if __name__ == "__main__":
    sys.exit(main())
