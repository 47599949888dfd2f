"""What `lmexp prepare` makes a corpus from, and what each stage does with a document.

The stages in their order: extract, clean, deduplicate, redact, decontaminate, words, split. Each is a block of keys,
and what one gives is kept by the content of the blocks up to it: a changed key runs its own stage and those after it.
"""

import codecs
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

from lmexp.config.data import Documents
from lmexp.config.schema import Option, Settings, setting


class Executor(Enum):
    """Where a pipeline runs: datatrove's executors."""

    local = "local"
    slurm = "slurm"
    ray = "ray"


class UnicodeForm(Enum):
    """The normal forms of Unicode."""

    NFC = "NFC"
    NFD = "NFD"
    NFKC = "NFKC"
    NFKD = "NFKD"


KINDS = ("email", "phone", "card", "iban", "ip", "url_credentials", "national_id", "secret")
"""The kinds of personal data that are redacted: `lmexp.corpus.redaction` says by which rule."""


@dataclass(kw_only=True)
class ExtractConfig(Settings):
    """From a file to documents."""

    encoding: str | None = setting(None)
    """Encoding of text files; null finds it out for each file: a BOM, UTF-8, UTF-16, else the likeliest."""
    documents: Documents = setting(Documents.file)
    """What one document is in a plain text file: the file, a line, or what stands between blank lines."""
    text_key: str | None = setting(None)
    """Where the text is in JSON, CSV and Parquet; null takes the first of text, content, body, article, document,
    review and paragraphs that is there."""
    max_document_mb: float = setting(50.0, above=0)
    """Megabytes of a document, or of a line of a file with one on each; what is larger is dropped and counted."""
    timeout_seconds: float = setting(30.0, above=0)
    """What an HTML page may take."""
    html_tables: bool = setting(True)
    """Keep the text of tables of HTML pages."""

    def check(self) -> Iterator[tuple[str, str]]:
        yield from super().check()
        try:
            codecs.lookup(self.encoding or "utf-8")
        except LookupError:
            yield "encoding", f"there is no encoding '{self.encoding}'; write utf-8, latin-1, cp1252, gb18030, ..."


@dataclass(kw_only=True)
class CleanConfig(Settings):
    """Repair of the text, and which documents are good enough."""

    mojibake: bool = setting(True)
    """Repair text that was decoded in the wrong way (ftfy)."""
    unicode: UnicodeForm | None = setting(UnicodeForm.NFC)
    """The Unicode normal form of all text; null leaves it as it is."""
    boilerplate: bool = setting(True)
    """Take off the headers and licences of Project Gutenberg, and lines that are only the furniture of a web page."""
    identify_language: bool = setting(True)
    """Say in which language each document is (fastText's model of 176 languages, inside the package)."""
    languages: list[str] = setting(default_factory=list)
    """Keep these languages only, by their ISO 639-1 codes: [en,zh]; [] keeps all."""
    min_language_score: float = setting(0.5, at_least=0, at_most=1)
    """How sure the language must be, where `languages` names some."""
    min_characters: int = setting(1, at_least=1)
    """Drop shorter documents."""
    max_characters: int | None = setting(None, at_least=1)
    """Drop longer documents; null keeps them."""
    gopher_quality: bool = setting(False)
    """Drop what Gopher's rules find poor: few words, no common words, too many symbols (Rae et al. 2021)."""
    gopher_repetition: bool = setting(False)
    """Drop documents that repeat lines, paragraphs or n-grams too often (Rae et al. 2021)."""
    c4: bool = setting(False)
    """Keep lines that end like a sentence; drop pages with few sentences, lorem ipsum or curly brackets
    (Raffel et al. 2020)."""
    fineweb: bool = setting(False)
    """Drop lists and pages of short or repeated lines (Penedo et al. 2024)."""
    quality_language: str = setting("en")
    """The language whose words and stop words the quality filters use."""

    def check(self) -> Iterator[tuple[str, str]]:
        yield from super().check()
        for language in self.languages:
            if not (2 <= len(language) <= 3 and language.isascii() and language.islower()):
                yield "languages", f"'{language}' is no ISO 639 code; write en, zh, de, ..."
        if self.max_characters is not None and self.max_characters < self.min_characters:
            yield "max_characters", f"is less than min_characters={self.min_characters}"


@dataclass(kw_only=True)
class DeduplicateConfig(Settings):
    """Which documents stand for others within and across sources; the first of equals is kept."""

    exact: bool = setting(True)
    """Of documents with the same words keep one: case, punctuation and white space do not count."""
    near: bool = setting(True)
    """Of documents that MinHash finds nearly the same keep one (Broder 1997); the same ones are among them."""
    ngram_size: int = setting(5, at_least=1)
    """Words in a shingle; of Chinese and Japanese each character is a word."""
    num_buckets: int = setting(14, at_least=1)
    """Buckets b of r hashes each: a pair of Jaccard similarity s is found with probability 1 - (1 - s^r)^b."""
    hashes_per_bucket: int = setting(8, at_least=1)
    """Hashes r in a bucket; more of them find only pairs that are more alike."""


@dataclass(kw_only=True)
class RedactConfig(Settings):
    """Personal data becomes a placeholder that says its kind: [EMAIL], [PHONE], ..."""

    kinds: list[str] = setting(default_factory=lambda: list(KINDS))
    """What is redacted: email, phone, card, iban, ip, url_credentials, national_id, secret; [] redacts nothing."""
    audit: int = setting(0, at_least=0)
    """So many documents are read once more by presidio, and what it still finds is counted in the card."""

    def check(self) -> Iterator[tuple[str, str]]:
        yield from super().check()
        for kind in self.kinds:
            if kind not in KINDS:
                yield "kinds", f"'{kind}' is none of {', '.join(KINDS)}"


@dataclass(kw_only=True)
class DecontaminateConfig(Settings):
    """Documents that hold examples of evaluation sets are dropped."""

    against: dict[str, str] = setting(default_factory=dict)
    """The sets, a name and a file or folder each: +corpus.decontaminate.against.sst2=test.tsv; each row or line is an
    example."""
    ngram_size: int = setting(13, at_least=2)
    """So many words of an example in a row are a leak, of shorter ones the whole (Brown et al. 2020, appendix C)."""
    min_words: int = setting(5, at_least=1)
    """Shorter examples are in no way special and are not looked for."""
    share: float = setting(0.4, above=0, at_most=1)
    """A leak, too, is an example of which this share of its 5-word stretches stands in a document: an edited one."""


@dataclass(kw_only=True)
class WordsConfig(Settings):
    """The classical steps, after which text is a row of words; all off, for a language model reads text as it is."""

    segment: bool = setting(False)
    """Put spaces between words: Chinese by jieba, other languages by spaCy's rules."""
    remove_stop_words: list[str] = setting(default_factory=list)
    """Take the stop words of these languages away (spaCy's lists): [en,zh]."""
    lowercase: bool = setting(False)
    """Write all in lower case."""
    remove_punctuation: bool = setting(False)
    """Take away what Unicode calls punctuation and symbols."""

    def check(self) -> Iterator[tuple[str, str]]:
        yield from super().check()
        spacy = find_spec("spacy")  # found and not imported: it takes a second
        known = Path(spacy.origin or "").parent / "lang" if spacy else None
        for language in self.remove_stop_words:
            if known is not None and not (known / language / "stop_words.py").is_file():
                yield "remove_stop_words", f"there is no list for '{language}'; write ISO 639-1 codes such as en or zh"
        if not self.segment and {"zh", "ja"} & set(self.remove_stop_words):
            yield (
                "segment",
                "must be true for stop words of Chinese or Japanese, whose words have no space between them",
            )

    @property
    def is_on(self) -> bool:
        """Whether any step is to be done."""
        return self.segment or bool(self.remove_stop_words) or self.lowercase or self.remove_punctuation


@dataclass(kw_only=True)
class SplitConfig(Settings):
    """Which documents are held out, chosen by their content."""

    val_fraction: float = setting(0.05, at_least=0, below=1)
    """Share of the text for validation. Of fewer than 100 documents none: `lmexp train` then takes the last part."""
    test_fraction: float = setting(0.05, at_least=0, below=1)
    """Share of the text for the test."""

    def check(self) -> Iterator[tuple[str, str]]:
        yield from super().check()
        if self.val_fraction + self.test_fraction >= 1:
            yield "val_fraction", "with test_fraction it takes all of the text"


@dataclass(kw_only=True)
class CorpusConfig(Option):
    """What every corpus has: the stages that its documents go through."""

    group = "corpus"

    license: str | None = setting(None)
    """Under which terms the documents are; said in the card."""
    extract: ExtractConfig = field(default_factory=ExtractConfig)
    """From a file to documents."""
    clean: CleanConfig = field(default_factory=CleanConfig)
    """Repair and quality."""
    deduplicate: DeduplicateConfig = field(default_factory=DeduplicateConfig)
    """What is there twice."""
    redact: RedactConfig = field(default_factory=RedactConfig)
    """Personal data."""
    decontaminate: DecontaminateConfig = field(default_factory=DecontaminateConfig)
    """Examples of evaluation sets."""
    words: WordsConfig = field(default_factory=WordsConfig)
    """The classical steps."""
    split: SplitConfig = field(default_factory=SplitConfig)
    """What is held out."""


@dataclass(kw_only=True)
class FilesCorpusConfig(CorpusConfig):
    """Documents from files of any supported format."""

    name = "files"
    builds = "lmexp.corpus.sources:Files"

    path: str | None = setting(None, identity=False)
    """A file, a folder or a glob; of a folder every file in a supported format is taken."""
    sources: dict[str, str] = setting(default_factory=dict, identity=False)
    """Several sources in the place of `path`, a name and a path each: +corpus.sources.wiki=dump.xml.bz2."""
    licenses: dict[str, str] = setting(default_factory=dict)
    """The terms of each source, where they differ: +corpus.licenses.wiki=CC-BY-SA-4.0."""

    FORMATS: ClassVar[tuple[str, ...]] = (
        *(".txt", ".md", ".markdown", ".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet"),
        *(".html", ".htm", ".xhtml", ".epub", ".xml"),
    )
    """What is taken from a folder, each also with .gz, .bz2 or .zst after it."""

    @property
    def paths(self) -> dict[str, str]:
        """Where each source is."""
        if self.path is None:
            return dict(self.sources)
        return {Path(self.path).expanduser().absolute().name.split(".")[0] or "files": self.path, **self.sources}

    def check(self) -> Iterator[tuple[str, str]]:
        yield from super().check()
        if not self.paths:
            yield "path", "must be given: a file, a folder or a glob"
        if len(self.paths) < len(self.sources) + (self.path is not None):
            yield "sources", f"has the name of the path ({next(iter(self.paths))}); give one of them another"
        for name in self.sources:
            if not name or any(character in name for character in "/\\\0"):
                yield "sources", f"'{name}' cannot be the name of a source"
        for name in self.licenses:
            if name not in self.paths:
                yield "licenses", f"there is no source '{name}'; there is {', '.join(self.paths) or 'none'}"


@dataclass(kw_only=True)
class DatasetCorpusConfig(CorpusConfig):
    """Documents from a data set of Hugging Face: a folder, its cache, or their hub."""

    name = "dataset"
    builds = "lmexp.corpus.sources:Dataset"

    dataset: str | None = setting(None)
    """Its name, with a configuration behind a colon, or a folder of its files."""
    dataset_split: str = setting("train")
    """Which of its splits is taken."""

    def check(self) -> Iterator[tuple[str, str]]:
        yield from super().check()
        if self.dataset is None:
            yield "dataset", "must be given: a name at Hugging Face, or a folder"


@dataclass(kw_only=True)
class SlurmConfig(Settings):
    """What a job of a Slurm cluster is given."""

    partition: str = setting("", identity=False)
    """The partition; must be given with executor=slurm."""
    time: str = setting("12:00:00", identity=False)
    """How long a job may take."""
    mem_per_cpu_gb: int = setting(4, at_least=1, identity=False)
    """Memory of a task in gigabytes."""
    env_command: str | None = setting(None, identity=False)
    """What a job runs first, such as `source .venv/bin/activate`."""
    qos: str = setting("normal", identity=False)
    """Quality of service."""


@dataclass(kw_only=True)
class PrepareConfig(Settings):
    """Everything that makes a corpus."""

    corpus: CorpusConfig = field(default_factory=FilesCorpusConfig)
    """Where documents come from and what is done with them."""
    out: str | None = setting(None, identity=False)
    """Folder of the corpus: data/ with the text, README.md (the card) and card.html; must be given."""
    executor: Executor = setting(Executor.local, identity=False)
    """Where the work is done: local processes, a Slurm cluster, or Ray."""
    workers: int | None = setting(None, at_least=1, identity=False)
    """Processes at once; null takes as many as there are cores. The text does not depend on it."""
    tasks: int | None = setting(None, at_least=1, identity=False)
    """Parts that the documents are cut into, each the work of one process at a time; null takes one for 4 MB,
    8 to 64 of them, and at most one a file where all are smaller than 8 MB."""
    keep_dropped: bool = setting(False, identity=False)
    """Keep the whole text of documents that were dropped; else their beginnings."""
    slurm: SlurmConfig = field(default_factory=SlurmConfig)
    """Of executor=slurm."""

    def check(self) -> Iterator[tuple[str, str]]:
        yield from super().check()
        if not self.out:
            yield "out", "must be given: the folder that the corpus is to be in"
        else:
            yield from (("out", problem) for problem in self._problems_of_out(Path(self.out).expanduser()))
        if self.executor is Executor.slurm and not self.slurm.partition:
            yield "slurm.partition", "must be given with executor=slurm"

    def _problems_of_out(self, out: Path) -> Iterator[str]:
        if out.exists() and not out.is_dir():
            yield f"{self.out} is a file"
            return
        there = {path.name for path in out.iterdir()} if out.exists() else set()
        if there - {".lock"} and not there & {"corpus.json", ".stages"}:
            yield f"{self.out} holds other files, which would be written over; give a new folder"
        for path in getattr(self.corpus, "paths", {}).values():
            if Path(path).is_dir() and out.resolve().is_relative_to(Path(path).resolve()):
                yield f"{self.out} lies among the documents in {path}; put it beside them"

    @property
    def num_workers(self) -> int:
        """Processes at once."""
        return self.workers or len(os.sched_getaffinity(0))
