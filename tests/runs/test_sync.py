"""Runs reach W&B with their groups, whatever they were trained with; what cannot work is said in one line.

W&B itself is real; its server is a stand-in on this machine that remembers what it was sent.
"""

import gzip
import json
import os
import pty
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from lmexp import compose
from lmexp.runs import RunFolder, labels
from lmexp.runs import sync as syncing
from lmexp.runs.folder import now
from lmexp.runs.sync import SyncError, replay, sync
from lmexp.training.loggers import WandbMirror

ROWS = [{"step": step, "tokens": 64 * step, "val/bits_per_byte": 4 - step / 10} for step in range(1, 6)]
SAMPLES = [{"step": 5, "prompt": "the", "text": " cat"}]


class StandIn(ThreadingHTTPServer):
    """A W&B server that says yes, or what `answers` says for the name of a query."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.queries: list[tuple[str, dict[str, Any]]] = []
        self.rows: list[dict[str, Any]] = []
        self.answers: dict[str, int] = {}
        self.silent = threading.Event()
        self.leaving = threading.Event()

    def handle_error(self, *_: Any) -> None:
        """Say nothing: W&B closes connections as it likes."""


class Handler(BaseHTTPRequestHandler):
    server: StandIn

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        raw = gzip.decompress(raw) if self.headers.get("Content-Encoding") == "gzip" else raw
        if self.path != "/graphql":
            if self.path.endswith("/file_stream"):
                lines = json.loads(raw).get("files", {}).get("wandb-history.jsonl", {}).get("content", [])
                self.server.rows += map(json.loads, lines)
            return self.answer({})
        query = json.loads(raw)
        name, variables = query["operationName"], query.get("variables") or {}
        self.server.queries.append((name, variables))
        if name == "UpsertBucket" and self.server.silent.is_set():
            self.server.leaving.wait(60)
        if name in self.server.answers:
            return self.answer({"errors": [{"message": "user is not logged in"}]}, self.server.answers[name])
        if name == "CreateArtifact":  # of tables; what they hold is also sent as a file
            return self.answer({"errors": [{"message": "the stand-in keeps no artifacts"}]})
        project = {"id": "p", "name": variables.get("project"), "entity": {"id": "e", "name": "me"}}
        bucket = {"id": "b", "name": variables.get("name"), "config": "{}", "historyLineCount": 0, "project": project}
        files = [{"name": name, "uploadUrl": f"{self.server.url}/put"} for name in variables.get("files", [])]
        return self.answer(
            {
                "data": {
                    "viewer": {"id": "u", "entity": "me", "username": "me", "flags": "{}", "teams": {"edges": []}},
                    "upsertBucket": {"bucket": bucket, "inserted": True},
                    "createRunFiles": {"runID": "b", "uploadHeaders": [], "files": files},
                    "serverInfo": {"features": []},
                }
            }
        )

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.answer({})

    def answer(self, value: dict[str, Any], code: int = 200) -> None:
        body = json.dumps(value).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def account(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home without an account, from which no test reaches the real W&B."""
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("NETRC", str(folder / "netrc"))
    monkeypatch.setenv("WANDB_HTTP_TIMEOUT", "2")
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    for name in ("WANDB_API_KEY", "WANDB_PROJECT", "WANDB_ENTITY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server(account: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    with StandIn() as stand_in:
        threading.Thread(target=stand_in.serve_forever, daemon=True).start()
        monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
        monkeypatch.setenv("WANDB_BASE_URL", stand_in.url)
        yield stand_in
        stand_in.leaving.set()
        stand_in.shutdown()


def made(name: str, *overrides: str, status: str = "done") -> RunFolder:
    """Return a run that was trained, as far as its folder tells."""
    run = RunFolder(Path("outputs/lmexp") / f"{name}-{len(overrides):012}")
    run.create(compose("train", ["model=lstm_tiny", "logger=none", f"name={name}", *overrides]))
    run.update(
        id=f"{name}{len(overrides)}", status=status, seed=0, parameters=7021, metrics={"test/bits_per_byte": 3.25}
    )
    for row in ROWS:
        run.append("metrics.jsonl", row)
    for row in SAMPLES:
        run.append("samples.jsonl", row)
    return run


def mirrored(run: RunFolder, rows: list[dict[str, Any]]) -> None:
    """Write what W&B would have written while the run was trained with logger=wandb."""
    mirror = WandbMirror(compose("train", ["logger.tags=[one,two]"]).logger, run=run, train_config=run.config)
    for row in rows:
        mirror.log_metrics(row, row["step"])
    mirror.log_samples(SAMPLES)
    mirror.close(0)


def records(folder: Path) -> list[dict[str, Any]]:
    """Return what W&B's own reader finds in an offline run."""
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def started(server: StandIn) -> list[dict[str, Any]]:
    return [variables for name, variables in server.queries if name == "UpsertBucket" and variables.get("groupName")]


def test_a_replay_has_the_name_group_tags_config_rows_and_results_of_the_run(account: None) -> None:
    run, other = made("lstm", "seed=3"), made("lstm", "seed=4", "data.batch_size=4")
    labels.tag(run, add=["pilot"])
    found = records(replay(run))
    said = next(record["run"] for record in found if record["type"] == "run")
    assert (said["run_id"], said["display_name"], said["project"]) == ("lstm1", run.path.name, "lmexp")
    assert said["tags"] == ["pilot"]
    config = said["config"]["update"]
    assert (config["seed"], config["model"]["name"], config["model"]["hidden_size"]) == (3, "lstm", 64)
    history = [record["history"]["item"] for record in found if record["type"] == "history"]
    assert [{key: row[key] for key in ROWS[0]} for row in history[:-1]] == ROWS
    assert history[-1]["samples.nrows"] == 1
    summary = [record["summary"]["update"] for record in found if record["type"] == "summary"]
    assert {"test/bits_per_byte": 3.25, "parameters": 7021, "status": "done"}.items() <= summary[-2].items()
    assert found[-1]["exit"].get("exit_code", 0) == 0
    groups = [syncing.mirror_arguments(run, run.config, mode="offline")["group"], said["run_group"]]
    assert groups[0] == groups[1]
    assert groups[0] != syncing.mirror_arguments(other, other.config, mode="offline")["group"]


def test_runs_reach_the_server_with_their_group_and_only_once(server: StandIn) -> None:
    runs = [made("lstm", "seed=3"), made("lstm", "seed=4", "data.cache_dir=cache")]
    said: list[str] = []
    assert sync(runs, say=said.append) == 2
    arrived = started(server)
    assert {query["displayName"] for query in arrived} == {run.path.name for run in runs}
    assert {query["name"] for query in arrived} == {"lstm1", "lstm2"}
    assert len({query["groupName"] for query in arrived}) == 1
    assert arrived[0]["groupName"].startswith("lstm-")
    assert [row["val/bits_per_byte"] for row in server.rows if "val/bits_per_byte" in row] == [
        row["val/bits_per_byte"] for _ in runs for row in ROWS
    ]
    asked = len(server.queries)
    assert sync(runs, say=said.append) == 0
    assert len(server.queries) == asked
    assert said == [f"pushed {run.path}" for run in runs] + [
        f"skipped {run.path}: it is at W&B already" for run in runs
    ]


def test_what_wandb_wrote_during_training_is_pushed_as_it_is(server: StandIn) -> None:
    run = made("lstm")
    mirrored(run, ROWS)
    before = list(run.path.glob("wandb/offline-run-*"))
    assert sync([run], project="thesis", entity="lab", say=lambda _: None) == 1
    assert list(run.path.glob("wandb/offline-run-*")) == before
    assert (started(server)[0]["project"], started(server)[0]["entity"]) == ("thesis", "lab")


def test_what_wandb_wrote_of_a_part_only_is_replayed_from_the_folder(server: StandIn) -> None:
    run = made("lstm")
    mirrored(run, ROWS[2:])  # trained with another logger before it was resumed
    assert sync([run], say=lambda _: None) == 1
    assert [row["step"] for row in server.rows if "val/bits_per_byte" in row] == [row["step"] for row in ROWS]


def test_a_run_that_went_on_after_it_was_pushed_is_pushed_again(server: StandIn) -> None:
    run = made("lstm")
    assert sync([run], say=lambda _: None) == 1
    run.append("metrics.jsonl", {"step": 6, "tokens": 384, "val/bits_per_byte": 3.0})
    later = next(run.path.glob("wandb/offline-run-*/*.synced")).stat().st_mtime + 5
    os.utime(run.path / "metrics.jsonl", (later, later))
    server.rows.clear()
    sync([run], say=lambda _: None)
    assert [row["step"] for row in server.rows if "val/bits_per_byte" in row] == [1, 2, 3, 4, 5, 6]


def test_runs_that_cannot_be_pushed_are_named_and_need_no_account(account: None) -> None:
    training, empty = made("lstm", status="running"), made("gru", "seed=1")
    training.update(heartbeat=now())
    (empty.path / "metrics.jsonl").unlink()
    online = made("online", "seed=2", "data.batch_size=4")
    (online.path / "wandb/run-20260101_000000-online2").mkdir(parents=True)
    said: list[str] = []
    assert sync([training, empty, online], say=said.append) == 0
    assert ["being trained" in said[0], "no metrics" in said[1], "while it was trained" in said[2]] == [True] * 3


def test_a_run_whose_config_cannot_be_read_does_not_stop_the_others(server: StandIn) -> None:
    foreign, run = made("foreign"), made("lstm", "seed=1")
    (foreign.path / "config.yaml").write_text("model: {name: of_a_plugin}")
    said: list[str] = []
    assert sync([foreign, run], say=said.append) == 1
    assert said[0].startswith(f"left out {foreign.path}: ")


CODE = """
import sys
from lmexp.errors import LmexpError
from lmexp.runs import find_run
from lmexp.runs.sync import sync
try:
    sync([find_run("lstm")], say=print)
except LmexpError as error:
    print("error:", error)
    sys.exit(error.exit_code)
"""


def test_without_an_account_one_line_says_what_to_do_and_no_question_is_asked(account: None) -> None:
    made("lstm")
    terminal, other_end = pty.openpty()  # W&B asks questions only at a terminal
    process = subprocess.Popen([sys.executable, "-c", CODE], stdin=other_end, stdout=other_end, stderr=other_end)
    os.close(other_end)
    assert process.wait(timeout=60) == 2
    printed = os.read(terminal, 10_000).decode().splitlines()
    os.close(terminal)
    assert printed == ["error: W&B needs an account: run `wandb login`, or set WANDB_API_KEY (also in a .env file)"]


@pytest.mark.parametrize("key", ["a" * 40, "short"])
def test_a_wrong_key_is_said_in_one_line(key: str, server: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    server.answers["Viewer"] = 401
    monkeypatch.setenv("WANDB_API_KEY", key)
    monkeypatch.setenv("WANDB_SERVICE", "3-1-unix-/tmp/gone")  # the helper of another W&B run of this process
    with pytest.raises(SyncError, match=r"^W&B refuses the key; .*(not logged in|40\+ characters)[^\n]*$") as error:
        sync([made("lstm")], say=lambda _: None)
    assert error.value.exit_code == 2


def test_a_server_out_of_reach_is_said_in_one_line(account: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    with pytest.raises(SyncError, match=r"^W&B cannot be reached; [^\n]*127\.0\.0\.1:9[^\n]*$"):
        sync([made("lstm")], say=lambda _: None)


def test_an_upload_that_is_refused_is_an_error_and_is_tried_again(server: StandIn) -> None:
    run = made("lstm")
    server.answers["UpsertBucket"] = 401
    with pytest.raises(SyncError, match=r"was not taken by W&B[^\n]*not logged in$"):
        sync([run], say=lambda _: None)
    server.answers.clear()
    assert sync([run], say=lambda _: None) == 1
    assert len(list(run.path.glob("wandb/offline-run-*"))) == 1


def test_a_server_that_falls_silent_costs_the_time_limit_only(server: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    server.silent.set()
    monkeypatch.setattr(syncing, "UPLOAD_SECONDS", 4.0)
    with pytest.raises(SyncError, match=r"was not taken by W&B[^\n]*no answer in 4 seconds$"):
        sync([made("lstm")], say=lambda _: None)
