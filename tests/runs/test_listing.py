"""Lists of runs: found, chosen, sorted, shown, exported; labels that people give."""

import csv
import io
import json
from pathlib import Path

import pytest

from lmexp.errors import RunError
from lmexp.runs import find_run, labels
from lmexp.runs.folder import delete
from lmexp.runs.listing import as_csv, as_json, as_rows, as_table, select, sort
from tests.runs.conftest import MakeRun

HOSTILE = [
    "=cmd|' /C calc'!A0",
    "+1+1",
    "-2+3",
    "@SUM(A1)",
    "\x1b]0;title\x07",
    "\x1b[31mred",
    "a\nb",
    "<script>alert(1)</script>",
]


def test_runs_are_sorted_by_any_key_and_those_without_it_come_last(outputs: Path, make_run: MakeRun) -> None:
    make_run(2.0, seed=3)
    make_run(None, seed=1)
    make_run(float("nan"), seed=2)
    make_run(1.0, seed=0)
    entries = select(outputs=outputs)
    assert [entry.get("seed") for entry in sort(entries, "seed")] == [0, 1, 2, 3]
    assert [entry.get("seed") for entry in sort(entries, "val/bits_per_byte")] == [0, 3, 1, 2]
    assert [entry.get("seed") for entry in sort(entries, "val/bits_per_byte", reverse=True)] == [3, 0, 1, 2]
    with pytest.raises(RunError, match="did you mean seed"):
        sort(entries, "sead")


def test_a_condition_chooses_by_config_record_and_metric(outputs: Path, make_run: MakeRun) -> None:
    make_run(2.0, "model=lstm")
    make_run(1.0, "model=lstm", status="failed")
    make_run(1.5)
    chosen = select(where='model == "lstm" and val/bits_per_byte < 2', outputs=outputs)
    assert [entry.path.name for entry in chosen] == ["run-0002"]
    assert len(select(where='status == "failed" or optimizer.learning_rate > 0', outputs=outputs)) == 3


@pytest.mark.parametrize("width", [80, 120, 200])
def test_the_table_fits_and_obeys_no_escape(outputs: Path, make_run: MakeRun, width: int) -> None:
    for text in HOSTILE:
        labels.rename(make_run(2.0), text)
    table = as_table(select(outputs=outputs), width=width)
    assert max(map(len, table.splitlines())) <= width
    assert len(table.splitlines()) >= 1 + len(HOSTILE)
    assert "\x1b" not in table
    assert "\x07" not in table


def test_no_cell_of_the_csv_is_a_formula(outputs: Path, make_run: MakeRun) -> None:
    for text in HOSTILE:
        run = make_run(-2.0)
        labels.rename(run, text)
        labels.tag(run, [text.replace(",", "")])
    rows = list(csv.DictReader(io.StringIO(as_csv(select(outputs=outputs), ["name", "tags", "val/bits_per_byte"]))))
    assert len(rows) == len(HOSTILE)
    assert not [cell for row in rows for cell in (row["run"], row["name"], row["tags"]) if cell[:1] in "=+-@"]
    assert {row["val/bits_per_byte"] for row in rows} == {"-2.0"}
    assert rows[0]["name"] == "'" + HOSTILE[0]


def test_json_has_everything_and_no_nan(outputs: Path, make_run: MakeRun) -> None:
    make_run(float("nan"), seed=4)
    [row] = json.loads(as_json(as_rows(select(outputs=outputs))), parse_constant=pytest.fail)
    assert (row["metrics"], row["status"], row["seed"]) == ({"val/bits_per_byte": None}, "done", 4)
    assert row["path"] == str(outputs / "p" / "run-0001")
    assert as_json([]) == "[]"


def test_labels_name_tag_and_archive_without_touching_run_json(outputs: Path, make_run: MakeRun) -> None:
    run = make_run(2.0)
    before = (run.path / "run.json").read_bytes()
    labels.rename(run, "the good one")
    assert labels.tag(run, ["a", "b", "a"], []) == ["a", "b"]
    assert labels.tag(run, ["c"], ["a"]) == ["b", "c"]
    assert find_run("the good", outputs).path == run.path
    labels.archive(run)
    assert select(outputs=outputs) == []
    assert [entry.title for entry in select(outputs=outputs, archived=True)] == ["the good one"]
    assert (run.path / "run.json").read_bytes() == before
    for wrong in ("", " ", "a,b"):
        with pytest.raises(RunError, match="tag"):
            labels.tag(run, [wrong])
    (run.path / labels.FILE).write_text("{broken")
    assert [entry.path for entry in select(outputs=outputs)] == [run.path]


def test_a_run_that_is_trained_is_not_deleted(outputs: Path, make_run: MakeRun) -> None:
    run = make_run(2.0)
    with run.lock(), pytest.raises(RunError, match="is being trained by process"):
        delete(run)
    assert run.record
    delete(run)
    assert not run.path.exists()
    assert list(run.path.parent.iterdir()) == []


def test_a_name_that_two_runs_have_is_asked_about(outputs: Path, make_run: MakeRun) -> None:
    make_run(2.0, name="alpha-1")
    make_run(2.0, name="alpha-2")
    with pytest.raises(RunError, match=r"part of 2 names"):
        find_run("alpha", outputs)
    with pytest.raises(RunError, match="2 runs are there"):
        find_run("beta", outputs)
