"""The documentation of the running Python as a corpus."""

from pathlib import Path

import pytest

from lmexp.config.data import PythonDocsConfig
from lmexp.config.tokenizer import BytesConfig
from lmexp.data.corpus import prepare
from lmexp.data.python_docs import PythonDocs
from lmexp.data.source import SPLITS
from lmexp.errors import StorageError


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that the first test fills; collecting the documents takes some seconds."""
    return tmp_path_factory.mktemp("python_docs")


@pytest.fixture
def source(cache: Path) -> PythonDocs:
    return PythonDocs(PythonDocsConfig(cache_dir=str(cache)))


def test_it_is_about_two_million_characters(source: PythonDocs):
    characters = {split: sum(map(len, source.documents(split))) for split in SPLITS}
    assert 1_000_000 < sum(characters.values()) < 8_000_000
    for split in ("val", "test"):
        assert 0.02 < characters[split] / sum(characters.values()) < 0.1


def test_no_module_is_in_two_splits(source: PythonDocs):
    splits = [set(source.documents(split)) for split in SPLITS]
    assert sum(map(len, splits)) == len(set.union(*splits)) > 500
    assert sum(len(list(source.documents(split))) for split in SPLITS) == len(source._documents)


def test_a_module_has_its_docstrings_under_their_names(source: PythonDocs):
    text = source._documents["module textwrap"]
    assert text.startswith("textwrap\n\nText wrapping and filling.\n")
    assert "\n\ntextwrap.TextWrapper.wrap\n\n" in text
    assert not any("test" in name.split(".") for name in source._documents)


def test_it_is_collected_once(source: PythonDocs, cache: Path):
    other = PythonDocs(PythonDocsConfig(cache_dir=str(cache)))
    assert source.fingerprint == other.fingerprint
    assert [path.suffix for path in cache.iterdir()] == [".json"]


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(StorageError, match=r"/cache: File exists; free some space or set data\.cache_dir"):
        prepare(PythonDocsConfig(cache_dir=str(tmp_path / "cache")), BytesConfig())
