"""Where text comes from and how it is cut into batches."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from glob import iglob
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

from lmexp.config.schema import Option, setting

AUTO = "auto"
LARGEST_AUTO_EVALUATION = 16


class Order(Enum):
    """How the rows of a batch follow each other."""

    shuffled = "shuffled"
    contiguous = "contiguous"


class Documents(Enum):
    """What one document is in a plain text file."""

    file = "file"
    line = "line"
    blank_line = "blank_line"


class Content(Enum):
    """What the examples of a data option are, and what a task reads."""

    text = "text"
    answers = "answers"
    preferences = "preferences"
    pairs = "pairs"
    labels = "labels"


class TooLong(Enum):
    """What becomes of an example that does not fit in a row."""

    cut = "cut"
    drop = "drop"


class DecodingErrors(Enum):
    """What to do with bytes that are not text in the given encoding."""

    strict = "strict"
    replace = "replace"
    ignore = "ignore"


@dataclass(kw_only=True)
class DataConfig(Option):
    """What every data option has: the shape and the order of the batches."""

    group = "data"
    content: ClassVar[Content] = Content.text

    batch_size: Any = setting(16, at_least=1)  # OmegaConf cannot merge unions (2.3)
    """Rows in one micro-step, over all ranks together; one rank of W computes the W-th part. auto: as many as fit in
    memory, so that global_batch_size rows make an optimizer step on any machine."""
    global_batch_size: int | None = setting(None, at_least=1)
    """Rows in one optimizer step, from which trainer.accumulate follows; null takes batch_size times
    trainer.accumulate."""
    context_length: int = setting(256, at_least=1)
    """Tokens in a row: what a Transformer can look back on, and how far an LSTM's gradient reaches."""
    order: Order = setting(Order.shuffled)
    """shuffled: windows from everywhere in the text. contiguous: each row goes on where it stopped in the batch before,
    and an LSTM carries its state along."""
    segments: bool = setting(False)
    """Cut attention and LSTM state at document borders, so that no document sees another."""
    end_of_document: bool = setting(True)
    """Put the tokenizer's end-of-document token after every document, so that a model can learn to stop."""
    limit_batches: int | None = setting(None, at_least=1)
    """Train on the first so many batches over and over (to see whether a model can overfit); null uses all."""
    evaluation_batch_size: int | None = setting(None, at_least=1, identity=False)
    """Rows in one batch of validation and test; null takes batch_size. Changes speed; with
    data.order=contiguous also the number of streams that the split is cut into."""
    cache_dir: str | None = setting(None, identity=False)
    """Folder of tokenized text, shared by runs; null is $LMEXP_CACHE or ~/.cache/lmexp."""

    @property
    def rows(self) -> int:
        """Rows in one micro-step, of a config that is settled."""
        assert isinstance(self.batch_size, int), "data.batch_size=auto is not settled"
        return self.batch_size

    @property
    def evaluation_rows(self) -> int:
        """Rows in one batch of validation and test; of auto 16 at most, the same on any machine."""
        if self.evaluation_batch_size is not None:
            return self.evaluation_batch_size
        return min(LARGEST_AUTO_EVALUATION, self.global_batch_size or 1) if self.batch_size == AUTO else self.rows

    def check(self) -> Iterator[tuple[str, str]]:
        yield from super().check()
        if self.batch_size != AUTO and type(self.batch_size) is not int:
            yield "batch_size", f"must be a whole number or auto, not {self.batch_size!r}"


@dataclass(kw_only=True)
class PythonDocsConfig(DataConfig):
    """The running Python's own documentation: language topics and the standard library's docstrings."""

    name = "python_docs"
    builds = "lmexp.data.python_docs:PythonDocs"


@dataclass(kw_only=True)
class FilesConfig(DataConfig):
    """What every option for files of your own has: where they are, how they are read and what is held out."""

    path: str | None = setting(None, identity=False)
    """A file, a folder or a glob such as 'books/*.txt'; must be given. Of a folder all files of the formats above are
    taken, hidden ones left out; files or folders in it called train, val (or valid, validation, dev) and test are those
    splits, and then nothing else may lie beside them."""
    val_path: str | None = setting(None, identity=False)
    """What is validated on; null takes it from `path`: its own val file, or a share."""
    test_path: str | None = setting(None, identity=False)
    """What is tested on; null takes it from `path`: its own test file, or a share."""
    val_fraction: float = setting(0.05, above=0, below=1)
    """Share for validation when there is no val_path: whole documents, chosen by their content, so that equal documents
    never stand on both sides. Of a text of fewer than 100 documents its last part; of more, a document larger than the
    share stays in train."""
    test_fraction: float = setting(0.05, at_least=0, below=1)
    """Share for the test split when there is no test_path; 0 for none."""
    encoding: str = setting("utf-8")
    """Encoding of the files, such as utf-8, latin-1 or cp1252."""
    errors: DecodingErrors = setting(DecodingErrors.strict)
    """Bytes that are not text in this encoding: strict stops and says where, replace puts U+FFFD, ignore drops them."""

    @property
    def needs_path(self) -> bool:
        """Whether there is nothing but files to read from."""
        return True

    def check(self) -> Iterator[tuple[str, str]]:
        yield from super().check()
        if self.path is None and self.needs_path:
            yield "path", "must be given: data.path=FILE, a folder, or a glob such as 'books/*.txt'"
        for key in ("path", "val_path", "test_path"):
            yield from self.problems_of_path(key)
        if self.val_fraction + self.test_fraction >= 1:
            yield "val_fraction", "val_fraction and test_fraction together leave nothing to train on"
        try:
            "".encode(self.encoding)
        except LookupError:
            yield "encoding", f"Python knows no encoding '{self.encoding}'; try utf-8, latin-1 or cp1252"

    def problems_of_path(self, key: str) -> Iterator[tuple[str, str]]:
        """Yield what is wrong with the files that a key names."""
        value = getattr(self, key)
        if value is not None and not _exists(value):
            yield key, f"nothing is there: {value}"


@dataclass(kw_only=True)
class RowFilesConfig(FilesConfig):
    """What every option for files of rows has: .json, .jsonl, .csv, .tsv (each also .gz), .parquet, or a data set."""

    usual_keys: ClassVar[tuple[str, ...]] = ()
    """What its columns, or keys, are called."""

    columns: dict[str, str] = setting(default_factory=dict)
    """Names of your own for the usual keys: {prompt: question, completion: answer}, {text: review, label: stars},
    {source: german, target: english}."""
    column_names: list[str] = setting(default_factory=list)
    """Names of the columns of .csv and .tsv files whose first line is a row already: [label,title,text]; [] where the
    first line names them. A .tsv file of two columns needs none."""
    dataset: str | None = setting(None)
    """In the place of files a data set of Hugging Face, OWNER/NAME or OWNER/NAME:CONFIG, or a folder that holds one
    (extra hf). Its own validation and test splits are taken where it has them."""

    @property
    def needs_path(self) -> bool:
        """Whether there is nothing but files to read from."""
        return self.dataset is None

    def check(self) -> Iterator[tuple[str, str]]:
        yield from super().check()
        for key in self.columns:
            if key not in self.usual_keys:
                yield f"columns.{key}", f"is none of the usual keys, which are: {', '.join(self.usual_keys)}"
        if self.dataset is not None and self.path is not None:
            yield "dataset", "there is data.path too; give one of the two"
        if self.dataset is not None and find_spec("datasets") is None:
            yield "dataset", "datasets is not installed; install it with: pip install 'lmexp[hf]'"


@dataclass(kw_only=True)
class TextConfig(FilesConfig):
    """Text files of your own: .txt, .md or .jsonl, each also as .gz."""

    name = "text"
    builds = "lmexp.data.text:TextFiles"

    documents: Documents = setting(Documents.file)
    """What one document is in .txt and .md files: a file, a line, or a block between blank lines."""
    text_key: str = setting("text")
    """The key of the text in .jsonl files."""


def _exists(pattern: str) -> bool:
    path = Path(pattern).expanduser()
    if path.exists():
        return True
    return any(character in pattern for character in "*?[") and any(iglob(str(path), recursive=True))
