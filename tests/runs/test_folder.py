"""The run folder survives crashes, two writers and a full disk, and is read without torch."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from lmexp import compose
from lmexp.errors import RunError
from lmexp.runs import RunFolder, find_run
from lmexp.runs.folder import replace_file, status_of
from lmexp.runs.listing import as_table, select


def make(outputs: Path, name: str, **record: object) -> RunFolder:
    run = RunFolder(outputs / "project" / name)
    run.path.mkdir(parents=True)
    run.update(id=name, status="done", created="2026-01-01T00:00:00+00:00", **record)
    return run


def test_update_keeps_what_it_does_not_name(tmp_path: Path) -> None:
    run = make(tmp_path, "a", metrics={"val/loss_nats": 2.0})
    run.update(step=3, metrics={"test/loss_nats": 3.0})
    assert run.record["id"] == "a"
    assert run.record["metrics"] == {"val/loss_nats": 2.0, "test/loss_nats": 3.0}


def test_many_threads_lose_no_update(tmp_path: Path) -> None:
    run = make(tmp_path, "a")
    threads = [threading.Thread(target=run.update, kwargs={"metrics": {f"m{i}": i}}) for i in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(run.record["metrics"]) == 20
    assert [path.name for path in run.path.iterdir()] == ["run.json"]


def test_a_torn_last_line_is_left_out_and_cut_back_removes_it(tmp_path: Path) -> None:
    run = make(tmp_path, "a")
    for step in (1, 2, 3):
        run.append("metrics.jsonl", {"step": step})
    with open(run.path / "metrics.jsonl", "a") as file:
        file.write('{"step": 4, "tra')
    assert [row["step"] for row in run.metrics] == [1, 2, 3]
    run.cut_back(2)
    assert (run.path / "metrics.jsonl").read_text() == '{"step": 1}\n{"step": 2}\n'


def test_replace_file_leaves_the_old_file_when_it_fails(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError):
        replace_file(path, "\ud800")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["run.json"]


def test_the_lock_says_who_holds_it(tmp_path: Path) -> None:
    run = make(tmp_path, "a")
    program = f"""
import sys
from pathlib import Path
from lmexp.runs import RunFolder
with RunFolder(Path({str(run.path)!r})).lock():
    print("held", flush=True)
    sys.stdin.read()
"""
    holder = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdin is not None
    try:
        holder.stdout.readline()
        with pytest.raises(RunError, match=f"is being trained by process {holder.pid} on "), run.lock():
            pass
    finally:
        holder.kill()
        holder.communicate(timeout=20)
    with run.lock():
        pass


def test_find_run_takes_a_path_or_a_part_that_only_one_name_has(tmp_path: Path) -> None:
    first, second = make(tmp_path, "lstm-abc123"), make(tmp_path, "lstm-def456")
    assert find_run(str(first.path), tmp_path).path == first.path
    assert find_run("def", tmp_path).path == second.path
    with pytest.raises(RunError, match=r"'lstm' is part of 2 names; write more of it"):
        find_run("lstm", tmp_path)
    with pytest.raises(RunError, match=r"no run is called 'gru' below .*; 2 runs are there: lmexp runs"):
        find_run("gru", tmp_path)


def test_a_run_without_a_sign_of_life_is_cut_off() -> None:
    assert status_of({"status": "running", "heartbeat": "2020-01-01T00:00:00+00:00"}) == "cut off"
    assert status_of({"status": "running"}) == "cut off"
    assert status_of({"status": "stopped"}) == "stopped"


def test_the_table_fits_its_width(tmp_path: Path) -> None:
    make(tmp_path, "transformer-python_docs-0123456789ab", metrics={"val/loss_nats": 3.21}, step=100, tokens=409600)
    entries = select(outputs=tmp_path)
    for width in (80, 120):
        lines = as_table(entries, width=width).splitlines()
        assert max(map(len, lines)) <= width
        assert "3.2100" in lines[1]


def test_runs_are_listed_without_torch(tmp_path: Path) -> None:
    make(tmp_path, "a")
    program = f"""
import sys, json
from lmexp.runs.listing import as_rows, select
print(json.dumps(as_rows(select(outputs={str(tmp_path)!r}))))
assert "torch" not in sys.modules and "hydra" not in sys.modules
"""
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(answer.stdout)[0]["id"] == "a"


def test_a_broken_run_json_is_said_in_one_line(tmp_path: Path) -> None:
    run = make(tmp_path, "a")
    (run.path / "run.json").write_text("{")
    with pytest.raises(RunError, match=r"run.json cannot be read"):
        _ = run.record


def test_a_config_comes_back_from_its_folder(tmp_path: Path) -> None:
    config = compose("train", ["model=lstm", "seed=3"])
    run = RunFolder(tmp_path / "run")
    run.create(config)
    assert run.config == config
    assert os.listdir(run.path) == ["config.yaml"]
