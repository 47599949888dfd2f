"""Which files a path, a folder or a glob names."""

from pathlib import Path

import pytest

from lmexp.config.data import TextConfig
from lmexp.data.files import find_files
from lmexp.data.readers import SUFFIXES, read_documents
from lmexp.errors import DataError


def write(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("text")


def names(pattern: str | Path) -> list[str]:
    return [str(path) for path in find_files(str(pattern), SUFFIXES)]


def test_of_a_folder_all_text_files_are_found_by_name(folder: Path):
    for name in ("b.txt", "a/c.md.gz", "a.jsonl", "x.csv", "x.gz", "a/y.TXT", ".git/d.txt", "._b.txt", "a/.ipynb/e.md"):
        write(folder / name)
    (folder / "dir.txt").mkdir()
    assert names(folder) == [str(folder / name) for name in ("a/c.md.gz", "a/y.TXT", "a.jsonl", "b.txt")]


def test_a_glob_takes_what_it_says(folder: Path):
    for name in ("b.log", "a.log", "c.txt", "d/e.log"):
        write(folder / name)
    (folder / "dir.log").mkdir()
    assert names("*.log") == ["a.log", "b.log"]
    assert names(f"{folder}/**/*.log") == [f"{folder}/{name}" for name in ("a.log", "b.log", "d/e.log")]
    assert names("d/../[ac].*") == ["d/../a.log", "d/../c.txt"]


def test_a_file_of_any_name_is_found(folder: Path):
    write(folder / "notes [1]")
    assert names("notes [1]") == ["notes [1]"]


def test_home_is_understood(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(folder))
    write(folder / "a.txt")
    assert names("~/a.txt") == [f"{folder}/a.txt"]


def test_links_are_followed(folder: Path):
    write(folder / "store/a")
    (folder / "texts").mkdir()
    (folder / "texts/a.txt").symlink_to("../store/a")
    assert list(read_documents(find_files(str(folder / "texts"), SUFFIXES)[0], TextConfig())) == ["text"]


def test_a_link_to_nothing_is_not_passed_over(folder: Path):
    write(folder / "texts/a.txt")
    (folder / "texts/b.txt").symlink_to("../store/b")
    path = find_files(str(folder / "texts"), SUFFIXES)[1]
    with pytest.raises(DataError) as error:
        list(read_documents(path, TextConfig()))
    assert str(error.value) == f"{folder}/texts/b.txt: cannot be read: No such file or directory"


@pytest.mark.parametrize("name", ["folder", "*.txt", "none.txt", "~/none", "/none/*"])
def test_where_nothing_is_the_path_is_named(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(folder))
    with pytest.raises(DataError) as error:
        find_files(name, SUFFIXES)
    assert str(error.value) == f"{name}: no file is there"


def test_a_folder_without_text_files_says_what_it_could_hold(folder: Path):
    write(folder / "x.csv")
    with pytest.raises(DataError) as error:
        find_files(str(folder), SUFFIXES)
    assert str(error.value) == f"{folder}: the folder holds no .txt, .md, .jsonl file (each also as .gz)"


@pytest.mark.parametrize("name", ["a" * 5000, "**.txt"])
def test_what_cannot_be_a_path_is_named(folder: Path, name: str):
    with pytest.raises(DataError, match=r": cannot be read: (File name too long|Invalid pattern: .*)$"):
        find_files(name, SUFFIXES)
