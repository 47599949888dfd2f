"""The whole road from a folder of mixed files to a corpus with its card, and what happens when it is walked again."""

import bz2
import csv
import gzip
import hashlib
import json
import random
import shutil
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from lmexp.config.compose import compose
from lmexp.config.prepare import compose_preparation
from lmexp.corpus.prepare import prepare
from lmexp.data.text import TextFiles
from lmexp.errors import BusyError, ConfigError, DataError, MissingPackageError
from tests.conftest import sentences

LEAK = "The night watchman counted nineteen green lanterns along the empty harbour wall before the first ferry came."
PERSONAL = "Ask ada.lovelace@example.org or call +44 20 7946 0958 about the harvest of this year."
PAGE = """<html><head><title>Rye</title></head><body><nav><a href="/">Home</a></nav><article><h1>Rye</h1>
<p>Rye is a grass grown as a grain. It is a member of the wheat tribe and closely related to barley and wheat.</p>
<p>Rye grain is used for flour, bread, beer and some whiskey. It can also be eaten whole, or rolled like oats.</p>
</article><footer>All rights reserved</footer></body></html>"""
DUMP = """<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.10/"><page><title>Oats</title><ns>0</ns><id>1</id>
<revision><text>'''Oats''' are a [[cereal]] grown for its seed.{{cite}} People and [[horse|horses]] eat them.
</text></revision></page><page><title>Oat</title><ns>0</ns><redirect title="Oats"/><revision><text>#REDIRECT [[Oats]]
</text></revision></page></mediawiki>"""
SECRET = "Write to grace.hopper@example.org."
COUNT = 130


def paragraph(number: int) -> str:
    return f"Report {number}. " + " ".join(sentences(500, seed=number).split("\n"))


def mixture(folder: Path) -> Path:
    """Return a folder with files of every kind, copies among them, and what is broken."""
    (folder / "books").mkdir(parents=True)
    rows = [{"text": paragraph(number)} for number in range(COUNT)]
    (folder / "rows.jsonl.gz").write_bytes(gzip.compress("".join(f"{json.dumps(row)}\n" for row in rows).encode()))
    near = rows[7]["text"].replace("the", "that", 1)
    more = [rows[3]["text"].upper(), f"{near} {SECRET}", f"{paragraph(900)} {LEAK} {paragraph(901)}", PERSONAL]
    with open(folder / "more.csv", "w", newline="") as file:
        csv.writer(file).writerows([("label", "text"), *((n, text) for n, text in enumerate(more))])
    (folder / "notes.md").write_bytes(b"\xff\xfe" + "Ein Satz über Äpfel und Birnen im Garten.\r\n".encode("utf-16-le"))
    (folder / "page.html").write_text(PAGE)
    (folder / "dump.xml.bz2").write_bytes(bz2.compress(DUMP.encode()))
    with zipfile.ZipFile(folder / "books" / "book.epub", "w") as book:
        book.writestr("META-INF/container.xml", '<c><rootfiles><rootfile full-path="o.opf"/></rootfiles></c>')
        book.writestr(
            "o.opf",
            '<package><manifest><item id="b" href="2.html"/><item id="a" href="1.html"/></manifest>'
            '<spine><itemref idref="a"/><itemref idref="b"/></spine></package>',
        )
        book.writestr("1.html", "<html><body><p>First chapter of the book about ships.</p></body></html>")
        book.writestr("2.html", "<html><body><p>Second chapter of the book about ships.</p></body></html>")
    (folder / "cut.txt.gz").write_bytes(gzip.compress(random.Random(0).randbytes(5_000))[:2_000])
    (folder / "scan.pdf").write_bytes(b"%PDF-1.4")
    (folder / "gone.txt").symlink_to(folder / "nowhere.txt")
    return folder


def run(source: Path, out: Path, *more: str) -> tuple[dict[str, Any], list[str]]:
    said: list[str] = []
    return prepare(compose_preparation([f"corpus.path={source}", f"out={out}", *more]), say=said.append), said


def rows_of(folder: Path, pattern: str = "*.jsonl") -> list[dict[str, Any]]:
    lines = (line for path in sorted(folder.glob(pattern)) for line in path.read_text().split("\n"))
    return [json.loads(line) for line in lines if line]


def contents(out: Path) -> dict[str, tuple[str, int]]:
    files = [path for path in sorted(out.rglob("*")) if path.is_file() and ".stages" not in path.parts]
    return {
        str(path.relative_to(out)): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in files
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, Any]]:
    """A mixture, the corpus from it, and what corpus.json says."""
    root = tmp_path_factory.mktemp("corpus")
    (root / "exam.txt").write_text(f"{LEAK}\n")
    source, out = mixture(root / "mixture"), root / "out"
    options = ["+corpus.decontaminate.against.exam=" + str(root / "exam.txt"), "workers=2", "corpus.license=CC0-1.0"]
    return source, out, run(source, out, *options)[0]


def test_every_document_read_is_kept_or_dropped_and_says_where_it_is_from(made: Any) -> None:
    _, out, manifest = made
    kept, dropped = rows_of(out / "data"), rows_of(out / "dropped")
    assert len(kept) == manifest["documents"]
    assert len(kept) + len(dropped) == manifest["stages"][0]["documents"] == COUNT + 4 + 4
    assert all(row["id"].startswith(f"mixture/{row['file']}") for row in kept)
    assert {row["id"] for row in kept} & {
        "mixture/books/book.epub",
        "mixture/page.html",
        "mixture/notes.md, line 1",
    } == {
        "mixture/books/book.epub",
        "mixture/page.html",
        "mixture/notes.md, line 1",
    }
    assert len({row["id"] for row in kept + dropped}) == len(kept) + len(dropped)


def test_every_dropped_document_names_the_step_and_the_reason(made: Any) -> None:
    dropped = rows_of(made[1] / "dropped")
    assert sorted((row["step"], row["reason"]) for row in dropped) == [
        ("duplicates", "duplicates"),
        ("duplicates", "duplicates"),
        ("leaks", "holds an example of exam"),
    ]
    clusters = {row["duplicates"] for row in rows_of(made[1] / "data") if "duplicates" in row}
    assert {row["duplicates"] for row in dropped if row["step"] == "duplicates"} == clusters


def test_formats_come_out_as_text(made: Any) -> None:
    texts = {row["file"]: row["text"] for row in rows_of(made[1] / "data")}
    assert texts["books/book.epub"].split("\n")[0].startswith("First chapter")
    assert texts["dump.xml.bz2"].startswith("Oats\n\nOats are a cereal grown for its seed.")
    assert "whiskey" in texts["page.html"]
    assert "rights reserved" not in texts["page.html"]
    assert texts["notes.md"] == "Ein Satz über Äpfel und Birnen im Garten."


def test_personal_data_is_gone_from_everything_that_is_written(made: Any) -> None:
    everything = "".join(path.read_text() for path in made[1].rglob("*") if path.suffix in (".jsonl", ".md", ".html"))
    assert "Ask [EMAIL] or call [PHONE] about" in everything
    assert "ada.lovelace" not in everything
    assert "grace.hopper" not in everything
    assert made[2]["redacted"] == {"email": 1, "phone": 1}


def test_the_card_tells_sources_losses_and_what_could_not_be_read(made: Any) -> None:
    for name in ("README.md", "card.html"):
        text = (made[1] / name).read_text()
        for wanted in ("CC0-1.0", "holds an example of exam", "cut.txt.gz", ".pdf", "gone.txt", made[2]["fingerprint"]):
            assert wanted in text, (name, wanted)


def test_no_document_is_in_two_splits_and_each_split_has_some(made: Any) -> None:
    of_split = {
        split: {row["text"] for row in rows_of(made[1] / "data", f"{split}-*")} for split in ("train", "val", "test")
    }
    assert all(of_split.values())
    assert sum(map(len, of_split.values())) == len(set().union(*of_split.values()))


def test_a_second_run_changes_nothing_and_a_changed_key_runs_only_what_follows(made: Any, tmp_path: Path) -> None:
    source, out = made[0], tmp_path / "out"
    run(source, out, "workers=1")
    before = contents(out)
    _, said = run(source, out, "workers=1")
    assert said == [f"{out}: nothing has changed"]
    assert contents(out) == before
    _, said = run(source, out, "workers=1", "corpus.redact.kinds=[email]")
    assert [line.split()[0] for line in said if "as before" in line] == ["extract", "clean", "deduplicate"]
    assert any("+44 20 7946 0958" in row["text"] for row in rows_of(out / "data"))
    _, said = run(source, out, "workers=1")  # and back again
    assert {name: digest for name, (digest, _) in contents(out).items() if name != "corpus.json"} == {
        name: digest for name, (digest, _) in before.items() if name != "corpus.json"
    }


def test_text_that_was_lost_is_made_again_from_what_is_kept(made: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(made[1], out, ignore=shutil.ignore_patterns(".stages"))
    first = json.loads((out / "corpus.json").read_text())
    next((out / "data").glob("train*")).unlink()
    options = ["+corpus.decontaminate.against.exam=" + str(made[0].parent / "exam.txt"), "corpus.license=CC0-1.0"]
    again, _ = run(made[0], out, *options)
    assert again["fingerprint"] == first["fingerprint"]


def test_training_reads_the_corpus_and_not_what_was_dropped(made: Any) -> None:
    config = compose("train", ["data=text", f"data.path={made[1]}"])
    files = TextFiles(config.data).files
    assert {split: bool(paths) for split, paths in files.items()} == {"train": True, "val": True, "test": True}
    assert {path.parent for paths in files.values() for path in paths} == {made[1] / "data"}


def test_dropped_documents_are_kept_whole_when_asked(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    long = " ".join(sentences(2_000).split("\n"))
    (tmp_path / "in/a.jsonl").write_text("".join(f"{json.dumps({'text': text})}\n" for text in (long, long, "short")))
    run(tmp_path / "in", tmp_path / "brief", "corpus.clean.min_characters=10")
    run(tmp_path / "in", tmp_path / "whole", "corpus.clean.min_characters=10", "keep_dropped=true")
    assert {row["step"] for row in rows_of(tmp_path / "brief" / "dropped")} == {"bounds", "duplicates"}
    assert 250 < max(len(row["text"]) for row in rows_of(tmp_path / "brief" / "dropped")) <= 300
    assert max(len(row["text"]) for row in rows_of(tmp_path / "whole" / "dropped")) == len(long.strip())


def test_classical_steps_leave_words(tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("The cat sat, of course, on the mat!\n我们今天去北京的公园玩。\n")
    run(tmp_path / "in.txt", tmp_path / "out", "corpus=classical")
    assert rows_of(tmp_path / "out" / "data")[0]["text"] == "cat sat course mat\n北京 公园 玩"


def test_quality_filters_name_what_they_drop(tmp_path: Path) -> None:
    good = " ".join(f"The people of the town have known that the river rises in year {n}." for n in range(20))
    rows = [{"text": good}, {"text": "# ... # ... buy now"}, {"text": "Das ist ein deutscher Satz. " * 20}]
    (tmp_path / "in.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    options = ["corpus.clean.gopher_quality=true", "corpus.clean.c4=true", "corpus.clean.languages=[en]"]
    run(tmp_path / "in.jsonl", tmp_path / "out", *options)
    assert len(rows_of(tmp_path / "out" / "data")) == 1
    reasons = {row["reason"].split(":")[0] for row in rows_of(tmp_path / "out" / "dropped")}
    assert "in another language" in reasons
    assert len(rows_of(tmp_path / "out" / "dropped")) == 2


def test_nothing_left_is_an_error_that_says_why_and_the_card_is_there(tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("short")
    with pytest.raises(DataError, match=r"all 1 documents were dropped.*README.md says why"):
        run(tmp_path / "in.txt", tmp_path / "out", "corpus.clean.min_characters=100")
    assert "too short" in (tmp_path / "out/README.md").read_text()


@pytest.mark.parametrize(("name", "problem"), [("", "is empty"), ("a.pdf", r"holds none of them \(1 files\)")])
def test_a_folder_without_documents_is_an_error_at_once(name: str, problem: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    if name:
        (tmp_path / "in" / name).touch()
    with pytest.raises(DataError, match=problem):
        run(tmp_path / "in", tmp_path / "out")


def test_an_audit_without_presidio_is_refused_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "presidio_analyzer", None)  # as Python itself marks what is not there
    (tmp_path / "in.txt").write_text("text")
    with pytest.raises(MissingPackageError, match=r"lmexp\[audit\]"):
        run(tmp_path / "in.txt", tmp_path / "out", "corpus.redact.audit=5")
    assert not (tmp_path / "out" / "data").exists()


def test_a_folder_of_other_files_is_never_written_over(tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("text")
    (tmp_path / "mine" / "data").mkdir(parents=True)
    (tmp_path / "mine" / "data" / "precious.jsonl").write_text("{}")
    with pytest.raises(ConfigError, match="holds other files"):
        run(tmp_path / "in.txt", tmp_path / "mine")
    assert (tmp_path / "mine" / "data" / "precious.jsonl").read_text() == "{}"
    with pytest.raises(ConfigError, match="lies among the documents"):
        run(tmp_path, tmp_path / "out")


def test_two_at_once_in_a_folder_are_refused(tmp_path: Path) -> None:
    import fcntl

    (tmp_path / "in.txt").write_text("text")
    (tmp_path / "out").mkdir()
    with open(tmp_path / "out/.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(BusyError):
            run(tmp_path / "in.txt", tmp_path / "out")


def test_a_data_set_of_hugging_face_is_a_source(tmp_path: Path) -> None:
    import datasets

    rows = datasets.Dataset.from_dict({"content": [paragraph(n) for n in range(5)], "url": [f"u{n}" for n in range(5)]})
    rows.save_to_disk(str(tmp_path / "set"))
    options = [f"corpus.dataset={tmp_path / 'set'}", f"out={tmp_path / 'out'}", "workers=1"]
    prepare(compose_preparation(["corpus=dataset", *options]), say=lambda text: None)
    assert sorted(row["url"] for row in rows_of(tmp_path / "out" / "data")) == [f"u{n}" for n in range(5)]


def test_other_terms_are_said_in_the_card_and_the_text_stays(tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("Some text to be kept as it is.")
    first, _ = run(tmp_path / "in.txt", tmp_path / "out", "workers=1")
    again, said = run(tmp_path / "in.txt", tmp_path / "out", "workers=1", "corpus.license=MIT")
    assert again["fingerprint"] == first["fingerprint"]
    assert sum("as before" in line for line in said) == 4
    assert "MIT" in (tmp_path / "out/README.md").read_text()


def test_several_sources_have_their_own_terms(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.txt").write_text(f"Some text of source {name}.")
    options = [f"+corpus.sources.{name}={tmp_path / name}.txt" for name in ("one", "two")]
    config = compose_preparation([*options, "+corpus.licenses.two=MIT", f"out={tmp_path / 'out'}", "workers=1"])
    manifest = prepare(config, say=lambda text: None)
    assert manifest["licenses"] == {"one": None, "two": "MIT"}
    assert {row["source"] for row in rows_of(tmp_path / "out" / "data")} == {"one", "two"}
