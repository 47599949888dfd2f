"""The index says what the folders say, whatever happened to it or to them."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from lmexp.config.store import flat, from_yaml, identity_of, is_identity, to_dict
from lmexp.runs import index as index_module
from lmexp.runs import labels
from lmexp.runs.index import FILE, Entry, Index, read_entry
from tests.runs.conftest import MakeRun


def entries(outputs: Path) -> list[Entry]:
    return Index(outputs).entries()


def test_the_second_reading_opens_no_run(outputs: Path, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(2.0, "model=lstm")
    first = entries(outputs)
    monkeypatch.setattr(index_module, "_read_details", None)
    [entry] = entries(outputs)
    assert entry.brief == first[0].brief
    assert entry.config == flat(to_dict(run.config))
    assert entry.record == run.record
    assert entry.get("model.num_layers") == 2
    assert entry.get("val/bits_per_byte") == 2.0


def test_what_changes_on_disk_changes_in_the_index(outputs: Path, make_run: MakeRun) -> None:
    run, other = make_run(2.0), make_run(3.0)
    entries(outputs)
    run.update(metrics={"val/bits_per_byte": 1.5}, status="failed")
    shutil.rmtree(other.path)
    labels.tag(run, ["good"])
    new = make_run(4.0)
    found = {entry.path.name: entry for entry in entries(outputs)}
    assert set(found) == {run.path.name, new.path.name}
    assert found[run.path.name].metrics == {"val/bits_per_byte": 1.5}
    assert (found[run.path.name].status, found[run.path.name].brief["tags"]) == ("failed", ["good"])
    assert found[new.path.name].metrics == {"val/bits_per_byte": 4.0}


@pytest.mark.parametrize("damage", ["garbage", "other version", "cut short", "other tables", "empty"])
def test_a_damaged_or_foreign_index_is_built_anew(outputs: Path, make_run: MakeRun, damage: str) -> None:
    make_run(2.0)
    expected = [entry.brief for entry in entries(outputs)]
    file = outputs / FILE
    if damage == "garbage":
        file.write_bytes(os.urandom(5000))
    elif damage == "cut short":
        file.write_bytes(file.read_bytes()[:5000])
    elif damage == "empty":
        file.write_bytes(b"")
    else:
        database = sqlite3.connect(file)
        if damage == "other version":
            database.execute("PRAGMA user_version = 99")
            database.execute("DROP TABLE details")
        else:
            database.execute("ALTER TABLE runs RENAME COLUMN brief TO something")
        database.commit()
        database.close()
    assert [entry.brief for entry in entries(outputs)] == expected
    assert [entry.brief for entry in entries(outputs)] == expected
    assert entries(outputs)[0].record["id"] == "00000001"


def test_a_folder_that_cannot_be_written_is_read_all_the_same(outputs: Path, make_run: MakeRun) -> None:
    make_run(2.0)
    (outputs / FILE).mkdir()  # as unwritable as a file can be for root too
    [entry] = entries(outputs)
    assert entry.metrics == {"val/bits_per_byte": 2.0}
    assert entry.config["seed"] == 0


def test_half_written_and_strange_folders_are_named_and_the_rest_goes_on(outputs: Path, make_run: MakeRun) -> None:
    good, torn, odd, empty, listed = (make_run(2.0, name=name) for name in ("good", "torn", "odd", "empty", "listed"))
    (torn.path / "run.json").write_text('{"status": "run')
    (odd.path / "config.yaml").write_text("a: [")
    (empty.path / "run.json").write_text("")
    (listed.path / "run.json").write_text("[1, 2]")
    (outputs / "p" / "no-run").mkdir()
    (outputs / "p" / "file").write_text("x")
    found = {entry.path.name: entry for entry in entries(outputs)}
    assert set(found) == {"good", "torn", "odd", "empty", "listed"}
    assert {name for name, entry in found.items() if entry.status == "unreadable"} == {"torn", "odd", "empty", "listed"}
    assert "run.json" in found["torn"].brief["problem"]
    assert "config.yaml" in found["odd"].brief["problem"]
    assert found["good"].status == "done"
    assert good.path == found["good"].path


def test_metrics_that_are_no_numbers_become_nan(outputs: Path, make_run: MakeRun) -> None:
    run = make_run(None)
    record = run.record | {"metrics": {"a": float("nan"), "b": float("inf"), "c": "1", "d": None, "e": True, "f": 2}}
    (run.path / "run.json").write_text(json.dumps(record))
    metrics = entries(outputs)[0].metrics
    assert [name for name, value in metrics.items() if value != value] == ["a", "b", "c", "d", "e"]
    assert metrics["f"] == 2


def test_runs_that_differ_in_their_seed_only_are_a_group(outputs: Path, make_run: MakeRun) -> None:
    make_run(2.0, seed=0)
    make_run(2.0, seed=1)
    make_run(2.0, "trainer.num_threads=1", "name=other", "project=q", seed=2)
    make_run(2.0, "model=lstm", seed=0)
    make_run(2.0, seed=0, data_fingerprint="d2")
    make_run(2.0, seed=0, tokenizer_hash="t2")
    make_run(2.0, seed=0, init_from={"weights": "w1"})
    groups = [entry.group for entry in entries(outputs)]
    assert groups[0] == groups[1] == groups[2]
    assert len(set(groups)) == 5


def test_the_identity_of_plain_values_is_that_of_the_dataclasses(make_run: MakeRun) -> None:
    for overrides in ([], ["model=lstm", "task=pretrain"], ["model=gpt2", "optimizer=adamw"], ["callbacks=ema"]):
        config = from_yaml(make_run(2.0, *overrides).path / "config.yaml")
        identity = to_dict(config, identity_only=True)
        assert identity_of(to_dict(config)) == identity
        everything = flat(to_dict(config))
        inner = {key for key in everything if everything[key] != {}}
        assert {key for key in inner if is_identity(key, everything)} == inner & set(flat(identity))


def test_a_config_of_another_version_or_plugin_is_still_a_run(outputs: Path, make_run: MakeRun) -> None:
    run = make_run(2.0)
    text = (run.path / "config.yaml").read_text()
    changed = text.replace("name: transformer", "name: my_own\n  strange_key: 3\n  date: 2026-01-01") + "newer: 1\n"
    (run.path / "config.yaml").write_text(changed)
    [entry] = entries(outputs)
    assert entry.status == "done"
    assert (entry.get("model"), entry.get("model.name")) == (None, "my_own")
    assert entry.get("model.strange_key") == 3


def test_an_alias_in_a_config_is_read_as_yaml_says(outputs: Path, make_run: MakeRun) -> None:
    run = make_run(2.0)
    (run.path / "config.yaml").write_text("seed: 3\na: &x\n  b: [1, 2]\nc: *x\n")
    assert entries(outputs)[0].config == {"seed": 3, "a.b": [1, 2], "c.b": [1, 2]}


def test_two_readers_at_once_get_the_same(outputs: Path, make_run: MakeRun) -> None:
    for _ in range(30):
        make_run(2.0)
    code = f"from lmexp.runs.index import Index; print(len(Index({str(outputs)!r}).entries()))"
    readers = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert [reader.communicate(timeout=120)[0].strip() for reader in readers] == ["30"] * 3


def test_a_run_elsewhere_is_read_without_an_index(make_run: MakeRun) -> None:
    run = make_run(2.0)
    entry = read_entry(run.path)
    assert (entry.id, entry.get("step"), entry.config["seed"]) == (f"p/{run.path.name}", 100, 0)
    assert not (run.path.parents[1] / FILE).exists()
