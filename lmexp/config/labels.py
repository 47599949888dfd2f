"""Texts with labels: sentiment, topics, any others."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from lmexp.config.buckets import BucketsConfig
from lmexp.config.data import Content, RowFilesConfig
from lmexp.config.schema import setting


class LabelFrom(Enum):
    """Where the label of a text stands."""

    column = "column"
    file = "file"
    folder = "folder"


@dataclass(kw_only=True)
class LabelledConfig(BucketsConfig, RowFilesConfig):
    """Texts with labels of your own: rows of .csv, .tsv, .jsonl, .json (each also .gz) or .parquet, or a file or a
    folder a label.
    """

    name = "labelled"
    builds = "lmexp.data.labelled:Labelled"
    content = Content.labels
    usual_keys = ("text", "label")

    text_columns: list[str] = setting(default_factory=list)
    """Columns that are joined to the text, a line each: [title,description]; [] takes the one called text (or by
    data.columns), sentence, review or content."""
    label_from: LabelFrom = setting(LabelFrom.column)
    """column: each row has its label. file: the name of a .txt file is the label of every line in it. folder: the name
    of a folder is the label of every .txt file in it."""

    label_names: dict[str, str] = setting(default_factory=dict)
    """Other names for labels: {1: World, 2: Sports}, where files call them differently."""

    def check(self) -> Iterator[tuple[str, str]]:
        yield from super().check()
        if self.text_columns and "text" in self.columns:
            yield "text_columns", "names the text, and data.columns.text does so too; give one of the two"
        if self.label_from is not LabelFrom.column and self.dataset is not None:
            yield "label_from", "the rows of a data set have their labels in a column"


@dataclass(kw_only=True)
class PythonDocsTopicsConfig(BucketsConfig):
    """Docstrings of the running Python's standard library, and the part of it that each belongs to."""

    name = "python_docs_topics"
    builds = "lmexp.data.python_docs_topics:PythonDocsTopics"
    content = Content.labels
