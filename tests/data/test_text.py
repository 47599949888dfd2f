"""Which text goes to which split."""

import gzip
from collections import Counter
from itertools import chain
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmexp.config.data import Documents, TextConfig
from lmexp.data import file_text
from lmexp.data.source import SPLITS
from lmexp.data.text import TextFiles
from lmexp.errors import DataError
from lmexp.tokenization import pieces


def splits(config: TextConfig) -> dict[str, list[str]]:
    source = TextFiles(config)
    return {split: ["".join(pieces(document)) for document in source.documents(split)] for split in SPLITS}


def write(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8", newline="")
    return path


def of_lines(folder: Path, lines: list[str], **settings) -> dict[str, list[str]]:
    path = write(folder / "lines.txt", "\n".join(lines))
    return splits(TextConfig(path=str(path), documents=Documents.line, **settings))


def refusal(config: TextConfig) -> str:
    with pytest.raises(DataError) as error:
        splits(config)
    return str(error.value)


# -- fractions ------------------------------------------------------------


def test_of_one_document_the_tail_is_held_out(folder: Path):
    text = "".join(map(str, range(1000)))[:1000]
    path = write(folder / "a.txt", text)
    assert splits(TextConfig(path=str(path))) == {"train": [text[:900]], "val": [text[900:950]], "test": [text[950:]]}


def test_a_document_in_pieces_is_divided_like_one_in_memory(folder: Path, monkeypatch: pytest.MonkeyPatch):
    for name in "abc":
        write(folder / "texts" / f"{name}.txt", "".join(map(str, range(1000))))
    config = TextConfig(path=str(folder / "texts"), val_fraction=0.3, test_fraction=0.2)
    whole = splits(config)
    monkeypatch.setattr(file_text, "PIECE_BYTES", 100)
    assert splits(config) == whole
    assert [len(whole[split]) for split in SPLITS] == [2, 2, 1]


def test_of_few_documents_the_tail_is_held_out(folder: Path):
    found = of_lines(folder, ["a" * 50, "b" * 40, "c" * 10], val_fraction=0.3, test_fraction=0.1)
    assert found == {"train": ["a" * 50, "b" * 10], "val": ["b" * 30], "test": ["c" * 10]}


def test_the_test_split_may_be_empty(folder: Path):
    assert of_lines(folder, ["a" * 100], test_fraction=0.0) == {"train": ["a" * 95], "val": ["a" * 5], "test": []}
    assert of_lines(folder, list(map(str, range(1000))), test_fraction=0.0)["test"] == []


def test_many_documents_are_held_out_whole(folder: Path):
    lines = [f"document {i}" for i in range(2000)]
    found = of_lines(folder, lines, val_fraction=0.1, test_fraction=0.05)
    assert sorted(chain(*found.values())) == sorted(lines)
    assert 195 <= len(found["val"]) <= 205
    assert 95 <= len(found["test"]) <= 105
    assert found["train"] == [line for line in lines if line in set(found["train"])]  # still in their order


def test_what_is_held_out_does_not_depend_on_the_place_of_a_document(folder: Path):
    lines = [f"document {i}" for i in range(300)]
    assert set(of_lines(folder, lines)["val"]) == set(of_lines(folder, lines[::-1])["val"])


LINES = st.lists(st.sampled_from([f"{'word ' * (i % 9)}{i}" for i in range(120)]), min_size=1, max_size=300)


@settings(max_examples=60, deadline=None)
@given(lines=LINES, val=st.sampled_from([0.05, 0.3]), test=st.sampled_from([0.0, 0.05, 0.3]))
def test_nothing_is_lost_and_equal_documents_stay_together(tmp_path_factory, lines: list[str], val: float, test: float):
    try:
        found = of_lines(tmp_path_factory.getbasetemp(), lines, val_fraction=val, test_fraction=test)
    except DataError as error:
        assert "no document is short enough" in str(error)  # noqa: PT017
        return
    parts = list(chain(*found.values()))
    if len(lines) < 100:
        assert "".join(parts) == "".join(lines)
        return
    assert Counter(parts) == Counter(lines)
    assert not set(found["train"]) & set(found["val"])
    assert not set(found["train"]) & set(found["test"])
    assert not set(found["val"]) & set(found["test"])
    characters = sum(map(len, lines))
    assert sum(map(len, found["val"])) < 2 * val * characters
    assert sum(map(len, found["test"])) <= 2 * test * characters


def test_one_long_document_among_many_stays_in_train(folder: Path):
    for number in range(20):  # any hash
        long = f"{number}" * 50_000
        found = of_lines(folder, [*(f"letter {i}" for i in range(400)), long], test_fraction=0.0)
        assert long in found["train"]


def test_when_no_document_is_short_enough_it_says_what_is(folder: Path):
    config = TextConfig(path=str(write(folder / "a.txt", "\n".join(f"{i:03}" for i in range(100)))))
    config.documents, config.val_fraction = Documents.line, 0.005
    assert refusal(config) == (
        "no document is short enough for data.val_fraction=0.005 (the shortest is 0.01 of the text); "
        "set it higher or give data.val_path"
    )
    config.val_fraction, config.test_fraction = 0.01, 0.01
    assert [len(found) for found in splits(config).values()] == [98, 1, 1]


@pytest.mark.parametrize("content", ["", " \n\n "])
def test_files_without_text_are_refused(folder: Path, content: str):
    path = write(folder / "a.txt", content)
    assert refusal(TextConfig(path=str(path))) == f"{path}: there is no text in it, or only white space"


# -- files of their own ------------------------------------------------------------

LAYOUTS = [
    {"train": "train.txt", "val": "val.txt", "test": "test.txt"},
    {"train": "train.jsonl.gz", "val": "valid.md", "test": "TEST.txt"},
    {"train": "ptb.train.txt", "val": "ptb.valid.txt", "test": "ptb.test.txt"},
    {"train": "train-00000-of-00002.txt", "val": "validation-00000-of-00001.txt", "test": "test_1.txt"},
    {"train": "train/pos/1.txt", "val": "dev/1.txt", "test": "test/1.txt"},
]


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout["train"])
def test_files_called_like_splits_are_those_splits(folder: Path, layout: dict[str, str]):
    write(folder / "README.md", "About the text.")
    for split, name in layout.items():
        content = f'{{"text": "{split}"}}' if ".jsonl" in name else split
        path = write(folder / name, content)
        if name.endswith(".gz"):
            path.write_bytes(gzip.compress(content.encode()))
    assert splits(TextConfig(path=str(folder))) == {split: [split] for split in SPLITS}


def test_a_glob_over_files_called_like_splits_finds_the_splits(folder: Path):
    for split in ("train", "valid", "test"):
        write(folder / f"wiki.{split}.tokens", split)
    assert splits(TextConfig(path="wiki.*.tokens")) == {"train": ["train"], "val": ["valid"], "test": ["test"]}


def test_a_missing_val_file_is_taken_from_train(folder: Path):
    write(folder / "train.txt", "a" * 100)
    write(folder / "test.txt", "test")
    assert splits(TextConfig(path=str(folder))) == {"train": ["a" * 95], "val": ["a" * 5], "test": ["test"]}


def test_a_document_called_test_is_a_document(folder: Path):
    for name in ("a", "test", "z"):
        write(folder / f"{name}.txt", name * 100)
    assert sum(len(text) for found in splits(TextConfig(path=str(folder))).values() for text in found) == 600


@pytest.mark.parametrize("name", ["train.txt", "val.txt", "test.txt"])
def test_a_single_file_is_the_whole_text_whatever_its_name(folder: Path, name: str):
    write(folder / "train.txt", "train")
    write(folder / name, "a" * 100)
    assert splits(TextConfig(path=name)) == {"train": ["a" * 90], "val": ["a" * 5], "test": ["a" * 5]}


def test_files_beside_those_of_splits_are_not_passed_over(folder: Path):
    for name in ("train.txt", "val.txt", "more.txt"):
        write(folder / name, name * 10)
    assert refusal(TextConfig(path=str(folder))) == (
        f"{folder}: val.txt is named for a split, but more.txt is not; name the files of each split with data.path, "
        f"data.val_path and data.test_path, or take all as one text with data.path='{folder}/**/*.txt'"
    )
    assert "more.txt" * 5 in "".join(chain(*splits(TextConfig(path=f"{folder}/**/*.txt")).values()))


def test_a_val_file_without_a_train_file_is_refused(folder: Path):
    write(folder / "val.txt", "val")
    write(folder / "test.txt", "test")
    assert "val.txt is named for a split, but none for train; " in refusal(TextConfig(path=str(folder)))


def test_val_path_and_test_path_are_those_splits(folder: Path):
    for name in ("a.txt", "v/1.txt", "v/2.txt", "t.txt"):
        write(folder / name, name * 10)
    found = splits(TextConfig(path="a.txt", val_path="v", test_path="t.txt"))
    assert found == {"train": ["a.txt" * 10], "val": ["v/1.txt" * 10, "v/2.txt" * 10], "test": ["t.txt" * 10]}


@pytest.mark.parametrize("val_path", ["b.txt", "../{name}/b.txt", "{folder}/b.txt", "link.txt", "b.t*"])
def test_val_path_inside_path_is_not_trained_on(folder: Path, val_path: str):
    (folder / "texts").mkdir()
    write(folder / "a.txt", "train")
    write(folder / "b.txt", "val")
    (folder / "link.txt").symlink_to("b.txt")
    val_path = val_path.format(name=folder.name, folder=folder)
    assert splits(TextConfig(path=".", val_path=val_path, test_fraction=0.0)) == {
        "train": ["train"],
        "val": ["val"],
        "test": [],
    }


def test_val_path_equal_to_path_leaves_nothing(folder: Path):
    write(folder / "a.txt", "text")
    assert refusal(TextConfig(path="a.txt", val_path="a.txt")) == (
        "a.txt: nothing is left to train on; data.val_path or data.test_path take all"
    )


# -- fingerprints ------------------------------------------------------------


def fingerprint(path: Path, **settings) -> str:
    return TextFiles(TextConfig(path=str(path), **settings)).fingerprint


def test_equal_text_has_equal_fingerprints_wherever_it_lies(folder: Path):
    one = write(folder / "a.txt", "text")
    other = write(folder / "b/c.md", "text")
    packed = folder / "d.txt.gz"
    packed.write_bytes(gzip.compress(b"text"))
    assert fingerprint(one) == fingerprint(other) == fingerprint(packed)


def test_texts_that_are_read_differently_have_different_fingerprints(folder: Path):
    line = '{"text": "a"}\n'
    seen = [fingerprint(write(folder / "1" / "a.txt", line)), fingerprint(write(folder / "1" / "a.jsonl", line))]
    seen.append(fingerprint(write(folder / "2" / "a.txt", line + line)))
    write(folder / "3" / "a.txt", line)
    seen.append(fingerprint(folder / "3" / "a.txt", val_path=str(folder / "1" / "a.txt")))
    seen.append(fingerprint(folder / "3" / "a.txt", test_path=str(folder / "1" / "a.txt")))
    assert len(set(seen)) == 5


def test_text_that_grows_while_it_is_read_is_refused(folder: Path):
    path = write(folder / "a.txt", "\n".join(map(str, range(200))))
    source = TextFiles(TextConfig(path=str(path), documents=Documents.line))
    list(source.documents("train"))
    with path.open("a") as file:
        file.write("\nmore")
    with pytest.raises(DataError, match=r"the text grew while it was read; start again when it is complete$"):
        list(source.documents("train"))
