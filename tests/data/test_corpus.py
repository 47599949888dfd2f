"""Tokenized text in the cache."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from lmexp.config.data import DataConfig, Documents, Order, TextConfig
from lmexp.config.tokenizer import BPEConfig, BytesConfig, CharactersConfig, TokenizerConfig, WordsConfig
from lmexp.data.cache import cache_folder
from lmexp.data.corpus import Corpus, prepare
from lmexp.errors import DataError, StorageError
from tests.conftest import sentences

BYTES = BytesConfig()
PREPARE = """
import sys, resource
from lmexp.config.data import TextConfig
from lmexp.config.tokenizer import BytesConfig
from lmexp.data.corpus import prepare
from lmexp.errors import LmexpError

path, cache, limit = sys.argv[1:]
if limit != "0":
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
try:
    prepare(TextConfig(path=path, cache_dir=cache), BytesConfig())
except LmexpError as error:
    print(error)
    sys.exit(error.exit_code)
"""


@pytest.fixture
def data(tmp_path: Path) -> TextConfig:
    """A text of 10,000 characters, 10,010 bytes, and a cache of its own."""
    path = tmp_path / "text.txt"
    path.write_text(("é" * 10 + sentences(10_000))[:10_000], encoding="utf-8")
    return TextConfig(path=str(path), cache_dir=str(tmp_path / "cache"))


def corpora(data: DataConfig) -> list[Path]:
    folder = cache_folder(data) / "corpora"
    return sorted(folder.iterdir()) if folder.is_dir() else []


def text_of(corpus: Corpus, split: str) -> str:
    return corpus.tokenizer.decode(corpus.open(split).ids)


# -- what is in it ---------------------------------------------------------------------------------


def test_the_manifest_counts_tokens_documents_and_bytes(data: TextConfig):
    corpus = prepare(data, BYTES)
    manifest = json.loads((corpus.folder / "manifest.json").read_text())
    assert manifest["splits"] == {
        "train": {"tokens": 9011, "documents": 1, "bytes": 9010},
        "val": {"tokens": 501, "documents": 1, "bytes": 500},
        "test": {"tokens": 501, "documents": 1, "bytes": 500},
    }
    assert manifest["fingerprint"] == corpus.fingerprint
    assert manifest["tokenizer_hash"] == corpus.tokenizer.hash
    assert {split: counts.bytes for split, counts in corpus.splits.items()} == {"train": 9010, "val": 500, "test": 500}


@pytest.mark.parametrize("tokenizer", [BYTES, CharactersConfig(), BPEConfig(vocab_size=290), WordsConfig()])
def test_bytes_are_those_of_the_text_whatever_the_tokenizer(data: TextConfig, tokenizer: TokenizerConfig):
    splits = prepare(data, tokenizer).splits
    assert [splits[split].bytes for split in ("train", "val", "test")] == [9010, 500, 500]


@pytest.mark.parametrize("end_of_document", [True, False])
def test_the_splits_together_are_the_whole_text(data: TextConfig, end_of_document: bool):
    corpus = prepare(replace(data, end_of_document=end_of_document), BPEConfig(vocab_size=290))
    assert "".join(text_of(corpus, split) for split in corpus.splits) == Path(data.path).read_text(encoding="utf-8")
    assert (corpus.tokenizer.end_of_document_id in corpus.open("train").ids) == end_of_document


def test_lines_keep_their_line_ends_without_end_of_document(data: TextConfig):
    lines = replace(data, documents=Documents.line, end_of_document=False)
    text = Path(data.path).read_text(encoding="utf-8")
    corpus = prepare(lines, CharactersConfig())
    assert sum(counts.bytes for counts in corpus.splits.values()) == len(text.encode()) + (not text.endswith("\n"))
    assert text_of(corpus, "train").splitlines()[1] in text.splitlines()


def test_characters_that_only_val_has_are_not_learned(data: TextConfig):
    path = Path(data.path)
    path.write_text(path.read_text(encoding="utf-8")[:-100] + "ß" * 100, encoding="utf-8")
    corpus = prepare(replace(data, val_fraction=0.1, test_fraction=0.0), CharactersConfig())
    assert "ß" not in corpus.tokenizer.learned
    assert text_of(corpus, "val").endswith("ß" * 100)


def test_a_character_of_val_that_is_unknown_is_refused_by_name(data: TextConfig):
    path = Path(data.path)
    path.write_text(path.read_text(encoding="utf-8")[:-1] + "ß", encoding="utf-8")
    with pytest.raises(DataError, match=r"^'ß' \(U\+00DF\) is not in the training split; "):
        prepare(data, CharactersConfig(byte_fallback=False))
    assert corpora(data) == []


@pytest.mark.parametrize("tokenizer", [BYTES, WordsConfig(), CharactersConfig(), BPEConfig()])
def test_no_text_to_train_on_is_refused_and_nothing_is_kept(data: TextConfig, tokenizer: TokenizerConfig):
    Path(data.path).write_text("abc")
    with pytest.raises(DataError, match=r"no text to (train on|learn a tokenizer from)$"):
        prepare(replace(data, val_fraction=0.5, test_fraction=0.4), tokenizer)
    assert corpora(data) == []


# -- when it is made anew --------------------------------------------------------------------------


def written_at(corpus: Corpus) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in corpus.folder.iterdir()}


def test_a_second_prepare_writes_nothing(data: TextConfig):
    first = prepare(data, BYTES)
    times = written_at(first)
    second = prepare(data, BYTES)
    assert written_at(second) == times
    assert (second.folder, second.fingerprint, second.splits) == (first.folder, first.fingerprint, first.splits)


def test_batch_settings_do_not_tokenize_again(data: TextConfig):
    prepare(data, BYTES)
    prepare(replace(data, batch_size=3, context_length=7, order=Order.contiguous), BYTES)
    prepare(replace(data, limit_batches=3, segments=True, evaluation_batch_size=1), BYTES)
    assert len(corpora(data)) == 1


def test_whatever_changes_the_tokens_tokenizes_again(data: TextConfig):
    prepare(data, CharactersConfig())
    prepare(data, CharactersConfig(byte_fallback=False))
    prepare(replace(data, end_of_document=False), CharactersConfig())
    prepare(replace(data, val_fraction=0.1), CharactersConfig())
    prepare(replace(data, documents=Documents.line), CharactersConfig())
    Path(data.path).write_text(sentences(5_000))
    prepare(data, CharactersConfig())
    assert len(corpora(data)) == 6


def test_the_same_text_elsewhere_is_the_same_corpus(data: TextConfig, tmp_path: Path):
    other = tmp_path / "elsewhere" / "other.md"
    other.parent.mkdir()
    other.write_bytes(Path(data.path).read_bytes())
    assert prepare(replace(data, path=str(other)), BYTES).folder == prepare(data, BYTES).folder


def test_a_file_that_is_read_in_another_way_is_another_corpus(data: TextConfig):
    path = Path(data.path)
    path.write_text('{"text": "hello"}\n' * 50)
    as_text = prepare(data, BYTES)
    as_rows = prepare(replace(data, path=str(path.rename(path.with_suffix(".jsonl")))), BYTES)
    assert as_text.fingerprint != as_rows.fingerprint
    assert text_of(as_rows, "train").startswith("hellohello")


DAMAGES = {
    "truncated ids": lambda folder: (folder / "train.bin").write_bytes((folder / "train.bin").read_bytes()[:-2]),
    "no ids": lambda folder: (folder / "val.bin").unlink(),
    "empty documents": lambda folder: (folder / "test.documents.npy").write_bytes(b""),
    "broken manifest": lambda folder: (folder / "manifest.json").write_text('{"format": 1, "spl'),
    "another manifest": lambda folder: (folder / "manifest.json").write_text('{"splits": []}'),
    "binary manifest": lambda folder: (folder / "manifest.json").write_bytes(b"\xff\xfe\0"),
    "no manifest": lambda folder: (folder / "manifest.json").unlink(),
    "changed tokenizer": lambda folder: (folder / "tokenizer.json").write_text(
        (folder / "tokenizer.json").read_text().replace('"learned": "', '"learned": "\\u0000')
    ),
    "no tokenizer": lambda folder: (folder / "tokenizer.json").unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_corpus_is_made_anew(data: TextConfig, damage: str):
    first = prepare(data, CharactersConfig())
    whole = {path.name: path.read_bytes() for path in first.folder.iterdir()}
    DAMAGES[damage](first.folder)
    again = prepare(data, CharactersConfig())
    assert {path.name: path.read_bytes() for path in again.folder.iterdir()} == whole
    assert corpora(data) == [again.folder]


def test_a_corpus_that_is_damaged_while_in_use_says_so(data: TextConfig):
    corpus = prepare(data, BYTES)
    DAMAGES["truncated ids"](corpus.folder)
    with pytest.raises(StorageError) as error:
        corpus.open("train")
    assert str(error.value) == (
        f"{corpus.folder}/train.bin is not as long as it was written; delete the folder {corpus.folder} to make it anew"
    )


def test_many_processes_may_prepare_the_same_text_at_once(data: TextConfig):
    command = [sys.executable, "-c", PREPARE, data.path, data.cache_dir, "0"]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    for process in processes:
        output, _ = process.communicate(timeout=60)
        assert (process.returncode, output) == (0, "")
    assert len(corpora(data)) == 1
    assert sum(counts.bytes for counts in prepare(data, BYTES).splits.values()) == 10_010


# -- disks -----------------------------------------------------------------------------------------


def test_a_full_disk_is_named_and_nothing_is_left_on_it(data: TextConfig):
    limit = 4_000  # bytes a file, less than the ids need
    command = [sys.executable, "-c", PREPARE, data.path, data.cache_dir, str(limit)]
    process = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=60)
    assert process.returncode == 3
    assert process.stdout == (
        f"{data.cache_dir}: File too large; free some space or set data.cache_dir to another disk\n"
    )
    assert corpora(data) == []


def test_a_cache_that_is_no_folder_is_named(data: TextConfig):
    Path(data.cache_dir).write_text("a file")
    with pytest.raises(StorageError) as error:
        prepare(data, BYTES)
    assert str(error.value) == (
        f"{data.cache_dir}: Not a directory; free some space or set data.cache_dir to another disk"
    )


def test_the_cache_is_where_it_is_asked_to_be(data: TextConfig, monkeypatch: pytest.MonkeyPatch):
    assert cache_folder(data) == Path(data.cache_dir)
    elsewhere = replace(data, cache_dir=None)
    monkeypatch.setenv("LMEXP_CACHE", "/a")
    assert cache_folder(elsewhere) == Path("/a")
    monkeypatch.delenv("LMEXP_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/b")
    assert cache_folder(elsewhere) == Path("/b/lmexp")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/c")
    assert cache_folder(elsewhere) == Path("/c/.cache/lmexp")
