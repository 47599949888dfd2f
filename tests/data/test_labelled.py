"""Texts with labels from every kind of file; labels are discovered, kept in order and never unknown to training."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lmexp.config.labels import LabelFrom, LabelledConfig, PythonDocsTopicsConfig
from lmexp.config.tokenizer import BytesConfig
from lmexp.data.corpus import Corpus, prepare
from lmexp.data.labelled import Labelled
from lmexp.data.python_docs import split_of
from lmexp.data.python_docs_topics import TOPIC_OF, TOPICS, PythonDocsTopics
from lmexp.errors import DataError


def texts(path: Path | str, **changes: Any) -> list[tuple[str, str]]:
    config = LabelledConfig(path=str(path), **changes)
    return [(one.text, one.label) for one in Labelled(config).read("train")]


def corpus_of(folder: Path, content: str, **changes: Any) -> Corpus:
    (folder / "all.tsv").write_text(content)
    config = LabelledConfig(path=str(folder / "all.tsv"), cache_dir=str(folder / "cache"), **changes)
    return prepare(config, BytesConfig())


TWO = [("so good", "pos"), ("so bad", "neg")]


def test_rows_of_every_kind_of_file_have_a_text_and_a_label(tmp_path: Path):
    files = {
        "a.tsv": "so good\tpos\nso bad\tneg\n",
        "b.tsv": "sentence\tlabel\nso good\tpos\nso bad\tneg\n",
        "c.csv": "label,review\npos,so good\nneg,so bad\n",
        "d.jsonl": '{"text": "so good", "label": "pos"}\n{"text": "so bad", "label": "neg"}\n',
        "e.json": '[{"text": "so good", "label": "pos"}, {"text": "so bad", "label": "neg"}]',
    }
    for name, content in files.items():
        (tmp_path / name).write_text(content)
        assert texts(tmp_path / name) == TWO, name


def test_columns_go_by_other_names_and_can_be_joined(tmp_path: Path):
    path = tmp_path / "news.csv"
    path.write_text('3,"Wall St.","Bears ""claw"" back"\n4,Carlyle,Looks\n')
    options: dict[str, Any] = {"column_names": ["class", "title", "description"]}
    joined = texts(path, text_columns=["title", "description"], **options)
    assert joined == [('Wall St.\nBears "claw" back', "3"), ("Carlyle\nLooks", "4")]
    named = texts(path, columns={"text": "title", "label": "class"}, label_names={"3": "Business"}, **options)
    assert named == [("Wall St.", "Business"), ("Carlyle", "4")]
    with pytest.raises(DataError, match=r"line 2 has no column text or sentence or review or content \(it has 3, Wall"):
        texts(path)
    with pytest.raises(DataError, match="no column heading"):
        texts(path, text_columns=["heading"], **options)


def test_a_file_or_a_folder_can_be_a_label(tmp_path: Path):
    for name, lines in {"movie.pos": "good\n\nfine\n", "movie.neg": "bad\n"}.items():
        (tmp_path / name).write_text(lines)
    found = texts(tmp_path / "movie.*", label_from=LabelFrom.file)
    assert found == [("bad", "neg"), ("good", "pos"), ("fine", "pos")]
    for name in ("pos/1.txt", "neg/1.txt"):
        path = tmp_path / "reviews" / name
        path.parent.mkdir(parents=True)
        path.write_text(f"a review of\n{name}\n")
    found = texts(tmp_path / "reviews", label_from=LabelFrom.folder)
    assert found == [("a review of\nneg/1.txt", "neg"), ("a review of\npos/1.txt", "pos")]


def test_labels_are_found_and_kept_in_order(tmp_path: Path):
    rows = "\n".join(f"text {n}\t{n % 11}" for n in range(200))
    corpus = corpus_of(tmp_path, rows)
    assert corpus.labels == tuple(map(str, range(11)))  # 10 after 9, not after 1
    file = corpus.open("train")
    assert file.labels is not None
    ends = [*file.document_starts[1:].tolist(), len(file.ids)]
    for start, end, label in zip(file.document_starts.tolist(), ends, file.labels.tolist(), strict=True):
        text = corpus.tokenizer.decode(file.ids[start:end].tolist())
        assert int(text.split()[1]) % 11 == int(corpus.labels[label])
    splits = [corpus.splits[split].documents for split in ("train", "val", "test")]
    assert (sum(splits), splits[1], splits[2]) == (200, 10, 10)


def test_what_cannot_be_learned_is_said(tmp_path: Path):
    with pytest.raises(DataError, match="one label, pos: there is nothing to tell apart"):
        corpus_of(tmp_path, "\n".join(f"text {n}\tpos" for n in range(50)))
    (tmp_path / "test.tsv").write_text("new\tneutral\n")
    rows = "\n".join(f"text {n}\t{'ab'[n % 2]}" for n in range(50))
    with pytest.raises(
        DataError, match=r"test\.tsv: line 1: no text to learn from has the label 'neutral'; they have a, b"
    ):
        corpus_of(tmp_path, rows, test_path=str(tmp_path / "test.tsv"))
    (tmp_path / "empty.tsv").write_text("a text\t\n")
    with pytest.raises(DataError, match="line 1: the label is empty"):
        texts(tmp_path / "empty.tsv")
    (tmp_path / "numbers.jsonl").write_text('{"text": ["a"], "label": 1}\n')
    with pytest.raises(DataError, match="line 1: text holds no text"):
        texts(tmp_path / "numbers.jsonl")


def test_equal_texts_are_never_on_both_sides(tmp_path: Path):
    rows = "\n".join(f"text {n % 40}\t{'ab'[n % 2]}" for n in range(400))
    (tmp_path / "all.tsv").write_text(rows)
    config = LabelledConfig(path=str(tmp_path / "all.tsv"), val_fraction=0.2, test_fraction=0.2)
    sides = [{one.text for one in Labelled(config).texts(split)} for split in ("train", "val", "test")]
    assert [len(side) for side in sides] == [24, 8, 8]
    assert not sides[0] & sides[1]
    assert not (sides[0] | sides[1]) & sides[2]


def test_docstrings_have_the_topic_of_their_module():
    source = PythonDocsTopics(PythonDocsTopicsConfig())
    assert source.labels == tuple(sorted(TOPICS))
    assert len(TOPIC_OF) == sum(len(modules.split()) for modules in TOPICS.values())  # no module in two topics
    for split in ("train", "val", "test"):
        found = list(source.texts(split))
        counts = np.array([sum(one.label == topic for one in found) for topic in TOPICS])
        assert (counts > 0).sum() >= 5
        assert counts.max() < 0.5 * counts.sum()
    for one in source.texts("test"):
        assert TOPIC_OF[one.place.split(".")[0]] == one.label
    assert split_of("module asyncio.queues") == split_of("module asyncio.queues")
