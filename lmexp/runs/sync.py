"""Runs to W&B: `lmexp runs sync`, and what a mirror tells W&B about a run.

What W&B wrote while the run was trained (offline) is pushed as it is when it is whole: it has the times of day. Else
(logger=none, a run that was cut off or resumed) the run folder, which has everything, is replayed into a new offline
run with the same id. Both are uploaded by W&B's own command, `wandb sync`, in a process of its own that cannot ask
questions and has a time limit; whether it worked is told by the marker that it leaves beside its file.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lmexp.config.logger import WandbConfig
from lmexp.config.store import identity_hash, to_dict
from lmexp.config.train import TrainConfig
from lmexp.errors import LmexpError, RunError
from lmexp.runs.folder import RunFolder, status_of
from lmexp.runs.labels import read_labels
from lmexp.runs.text import one_line

LOGIN_SECONDS = 60.0
UPLOAD_SECONDS = 600.0
INSPECT_SECONDS = 60.0
FACTS = ("parameters", "tokens", "data_fingerprint", "tokenizer_hash", "source_hash", "git", "device", "host")
"""What run.json knows and the config does not."""

REFUSED = re.compile(r"invalid|logged in|unauthori[sz]ed|forbidden|permission|\b40[13]\b", re.IGNORECASE)
OWN = ("WANDB_MODE", "WANDB_SILENT", "WANDB_SERVICE")
"""What a process of W&B's own must not take over: our mode, and the helper process of this one."""
ASK_BRIEFLY = {"WANDB__GRAPHQL_RETRY_MAX": "1", "WANDB__GRAPHQL_RETRY_WAIT_MAX_SECONDS": "1"}
"""W&B's own settings, else it asks a server that refuses the connection for up to two minutes."""

Row = dict[str, Any]


class SyncError(LmexpError):
    """W&B cannot be reached, knows no account, or takes no runs."""

    exit_code = 2


def sync(
    runs: Sequence[RunFolder],
    *,
    project: str | None = None,
    entity: str | None = None,
    say: Callable[[str], None] = print,
) -> int:
    """Push runs to W&B with their groups and return how many were pushed; those that are there already are skipped.

    Args:
        runs: Run folders.
        project: W&B project for all of them; None takes what each was trained with.
        entity: W&B user or team for all of them; None takes what each was trained with, or your own.
        say: Takes a line about each run.

    Raises:
        SyncError: no account, a wrong key, a server out of reach; the runs pushed before stay pushed.
    """
    waiting = []
    for run in runs:
        reason = _reason_to_skip(run)
        if reason:
            say(f"skipped {run.path}: {reason}")
        else:
            waiting.append(run)
    if not waiting:
        return 0
    _require_account()
    pushed = 0
    for run in waiting:
        try:
            folder = _whole_mirror(run) or replay(run)
        except RunError as error:
            say(f"left out {run.path}: {error}")
            continue
        _upload(folder, project, entity)
        pushed += 1
        say(f"pushed {run.path}")
    return pushed


def load() -> None:
    """Import W&B now, which takes most of a second."""
    import wandb  # noqa: F401


def mirror_arguments(run: RunFolder, config: TrainConfig, *, mode: str) -> dict[str, Any]:
    """Return what `wandb.init` is told of a run: the same words while it is trained and when it is replayed."""
    import wandb

    wanted = config.logger if isinstance(config.logger, WandbConfig) else WandbConfig()
    return {
        "mode": mode,
        "dir": str(run.path.resolve()),
        "id": str(run.record.get("id") or run.path.name.rpartition("-")[2]),
        "resume": "allow" if mode == "online" else None,
        "project": wanted.project or os.environ.get("WANDB_PROJECT") or config.project,
        "entity": wanted.entity,
        "name": run.path.name,
        "group": wanted.run_group or f"{config.display_name}-{_hash_without_seed(config)}",
        "tags": wanted.tags,
        "notes": wanted.notes,
        "config": to_dict(config),
        "settings": wandb.Settings(console="off", x_disable_machine_info=True, disable_git=True, silent=True),
    }


def start_mirror(arguments: dict[str, Any]) -> Any:
    """Start a W&B run whose metrics are drawn over the step."""
    import wandb

    mirror = wandb.init(**arguments)
    mirror.define_metric("step")
    mirror.define_metric("tokens")
    mirror.define_metric("*", step_metric="step")
    return mirror


def samples_row(samples: Sequence[Row]) -> Row:
    """Return all texts generated so far as a table, at the step of the last one."""
    import wandb

    data = [[row["step"], row["prompt"], row["text"]] for row in samples]
    return {"samples": wandb.Table(columns=["step", "prompt", "text"], data=data), "step": samples[-1]["step"]}


def replay(run: RunFolder) -> Path:
    """Write what the run folder holds as an offline W&B run, and return its folder.

    Raises:
        RunError: the config cannot be read, or W&B cannot write.
    """
    config, record, labels = run.config, run.record, read_labels(run.path)
    try:
        arguments = mirror_arguments(run, config, mode="offline")
        arguments["name"] = labels.name or arguments["name"]
        arguments["tags"] = list(dict.fromkeys([*arguments["tags"], *labels.tags]))
        mirror = start_mirror(arguments)
        for row in _rows(run):
            mirror.log(row)
        if samples := [row for row in run.samples if isinstance(row, dict) and {"step", "prompt", "text"} <= set(row)]:
            mirror.log(samples_row(samples))
        facts = {name: record[name] for name in FACTS if record.get(name) is not None}
        mirror.summary.update({**facts, **record.get("metrics", {}), "status": status_of(record)})
        mirror.finish(exit_code=0 if record.get("status") == "done" else 1)
    except Exception as error:  # whatever W&B raises
        raise RunError(f"W&B could not write it: {type(error).__name__}: {one_line(str(error))}") from error
    return _mirrors(run)[-1]


def load_environment() -> None:
    """Take WANDB_MODE, WANDB_API_KEY and the like from a .env file in the working folder."""
    from dotenv import load_dotenv

    load_dotenv(Path.cwd() / ".env")


def _rows(run: RunFolder) -> list[Row]:
    return [row for row in run.metrics if isinstance(row, dict)]


def _mirrors(run: RunFolder) -> list[Path]:
    """Return W&B's folders of a run, the oldest first."""
    folders = [path for path in (run.path / "wandb").glob("*run-*") if re.match(r"(offline-)?run-\d+_\d+-", path.name)]
    return sorted(folders, key=lambda path: (path.name.removeprefix("offline-"), path.stat().st_mtime))


def _marker(folder: Path) -> Path | None:
    """Return the file by which `wandb sync` remembers what it has uploaded."""
    return next(folder.glob("*.wandb.synced"), None)


def _reason_to_skip(run: RunFolder) -> str | None:
    try:
        status = status_of(run.record)
    except RunError as error:
        return str(error)
    if not _rows(run):
        return "it has no metrics"
    if status == "running":
        return "it is being trained; push it when it has ended"
    if mirrors := _mirrors(run):
        marker = _marker(mirrors[-1])
        if marker and marker.stat().st_mtime >= (run.path / "metrics.jsonl").stat().st_mtime:
            return "it is at W&B already"
        if not mirrors[-1].name.startswith("offline-"):
            return f"it went to W&B while it was trained; what is missing: wandb sync --include-online {mirrors[-1]}"
    return None


def _whole_mirror(run: RunFolder) -> Path | None:
    """Return the newest offline folder if W&B ended it well and it has every row: not of a part of the run."""
    mirrors = _mirrors(run)
    if not mirrors:
        return None
    _, text = _wandb("leet", "inspect", "--summary", "--json", str(mirrors[-1].resolve()), seconds=INSPECT_SECONDS)
    try:
        summary = json.loads(text[text.index("{") :])
        last = summary["summary"]["_step"]
    except (ValueError, KeyError, TypeError):
        return None
    tables = len({row.get("step") for row in run.samples if isinstance(row, dict)})
    ended = summary.get("state") in ("finished", "failed")
    return mirrors[-1] if ended and last + 1 >= len(_rows(run)) + tables else None


def _require_account() -> None:
    load_environment()
    code, text = _wandb("login", "--verify", seconds=LOGIN_SECONDS, settings=ASK_BRIEFLY)
    if code == 0:
        return
    said = _last_words(text)
    if "No API key" in said:
        raise SyncError("W&B needs an account: run `wandb login`, or set WANDB_API_KEY (also in a .env file)")
    if REFUSED.search(said):
        raise SyncError(f"W&B refuses the key; run `wandb login --relogin`, or set another WANDB_API_KEY: {said}")
    raise SyncError(f"W&B cannot be reached; is there a network, is WANDB_BASE_URL right? {said}")


def _upload(folder: Path, project: str | None, entity: str | None) -> None:
    if marker := _marker(folder):  # of an earlier state of the run
        marker.unlink()
    chosen = [*(["--project", project] if project else []), *(["--entity", entity] if entity else [])]
    _, text = _wandb("sync", *chosen, str(folder.resolve()), seconds=UPLOAD_SECONDS)
    if not _marker(folder):
        raise SyncError(f"{folder} was not taken by W&B; the same command tries again: {_last_words(text)}")


def _wandb(*arguments: str, seconds: float, settings: Mapping[str, str] | None = None) -> tuple[int | None, str]:
    """Return the exit code of W&B's own command, None when its time was up, and what it printed."""
    environment = {key: value for key, value in os.environ.items() if key not in OWN}
    with tempfile.TemporaryDirectory() as scratch:
        try:
            done = subprocess.run(
                [sys.executable, "-m", "wandb", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={**environment, **(settings or {}), "WANDB_DIR": scratch},
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            text = (error.stdout or b"").decode(errors="replace")
            return None, f"{text}\nno answer in {seconds:.0f} seconds"
    return done.returncode, done.stdout.decode(errors="replace")


def _last_words(text: str) -> str:
    """Return the last line that W&B printed, without its prefixes."""
    lines = [line for line in text.splitlines() if line.strip() and "error logs at" not in line]
    return one_line(re.sub(r"^(wandb: )?((ERROR|Error:) )?", "", lines[-1])) if lines else "it said nothing"


def _hash_without_seed(config: TrainConfig) -> str:
    import dataclasses

    return identity_hash(dataclasses.replace(config, seed=0))[:6]
