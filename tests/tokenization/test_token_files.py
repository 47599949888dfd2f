"""Files of ids."""

from pathlib import Path

import numpy as np
import pytest

from lmexp.config.tokenizer import BytesConfig, CharactersConfig, WordsConfig
from lmexp.errors import DataError, StorageError
from lmexp.tokenization import Tokenizer, learn, token_files
from lmexp.tokenization.token_files import SplitCounts


@pytest.fixture
def tokenizer() -> Tokenizer:
    return learn(BytesConfig(), [])


def test_what_is_written_is_read(tmp_path: Path, tokenizer: Tokenizer):
    counts = token_files.write(tmp_path, "val", ["ab", "", "é"], tokenizer, end_of_document=True)
    assert counts == SplitCounts(tokens=7, documents=3, bytes=4)
    file = token_files.read(tmp_path, "val", counts, tokenizer.vocab_size)
    assert file.ids.tolist() == [97, 98, 256, 256, 0xC3, 0xA9, 256]
    assert file.document_starts.tolist() == [0, 3, 4]
    assert file.ids.dtype == np.uint16


def test_separators_are_counted_as_the_end_of_document(tmp_path: Path, tokenizer: Tokenizer):
    counts = token_files.write(tmp_path, "val", ["ab", "c"], tokenizer, end_of_document=True, separator="\n")
    assert counts == SplitCounts(tokens=5, documents=2, bytes=5)


def test_separators_stay_in_the_text_without_end_of_document(tmp_path: Path, tokenizer: Tokenizer):
    counts = token_files.write(tmp_path, "val", ["ab", "c"], tokenizer, end_of_document=False, separator="\n")
    assert counts == SplitCounts(tokens=5, documents=2, bytes=5)
    file = token_files.read(tmp_path, "val", counts, tokenizer.vocab_size)
    assert tokenizer.decode(file.ids) == "ab\nc\n"
    assert file.document_starts.tolist() == [0, 3]


def test_an_empty_split_can_be_read(tmp_path: Path, tokenizer: Tokenizer):
    counts = token_files.write(tmp_path, "test", [], tokenizer, end_of_document=True)
    file = token_files.read(tmp_path, "test", counts, tokenizer.vocab_size)
    assert (len(file.ids), len(file.document_starts)) == (0, 0)


def test_vocabularies_above_65536_have_four_bytes_an_id(tmp_path: Path):
    tokenizer = learn(WordsConfig(), [" ".join(map(str, range(70_000)))])
    counts = token_files.write(tmp_path, "train", ["69999 5 0"], tokenizer, end_of_document=True)
    file = token_files.read(tmp_path, "train", counts, tokenizer.vocab_size)
    assert file.ids.dtype == np.uint32
    assert tokenizer.decode(file.ids) == "69999 5 0\n"
    assert file.ids.max() > 65_536


def test_vocabularies_of_65536_fit_two_bytes(tmp_path: Path):
    tokenizer = learn(WordsConfig(vocab_size=65_536), [" ".join(map(str, range(70_000)))])
    last = tokenizer.learned[-1]
    counts = token_files.write(tmp_path, "train", [last], tokenizer, end_of_document=False)
    file = token_files.read(tmp_path, "train", counts, tokenizer.vocab_size)
    assert (file.ids.dtype, file.ids.tolist()) == (np.uint16, [65_535])


def test_a_tokenizer_without_end_of_document_is_refused(tmp_path: Path):
    tokenizer = learn(CharactersConfig(end_of_document=False), ["ab"])
    with pytest.raises(DataError) as error:
        token_files.write(tmp_path, "train", ["ab"], tokenizer, end_of_document=True)
    assert str(error.value) == (
        "data.end_of_document=true, but the tokenizer has no such token; set data.end_of_document=false or "
        "tokenizer.end_of_document=true"
    )


@pytest.mark.parametrize("name", ["train.bin", "train.documents.npy"])
@pytest.mark.parametrize("damage", ["missing", "empty", "short", "long"])
def test_a_damaged_file_is_refused(tmp_path: Path, tokenizer: Tokenizer, name: str, damage: str):
    counts = token_files.write(tmp_path, "train", ["abc"] * 100, tokenizer, end_of_document=True)
    path = tmp_path / name
    data = path.read_bytes()
    path.write_bytes({"missing": b"", "empty": b"", "short": data[:-3], "long": data + bytes(8)}[damage])
    if damage == "missing":
        path.unlink()
    if damage == "long" and name.endswith(".npy"):
        return  # bytes after the array are not read
    with pytest.raises(StorageError, match=r"delete .* to make it anew$"):
        token_files.read(tmp_path, "train", counts, tokenizer.vocab_size)
