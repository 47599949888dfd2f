"""Write, verify and load checkpoints: the only way in for weights.

A checkpoint is a folder `step-000123` with weights.safetensors, state.pt and meta.json, which holds size and sha256 of
both. It is written under another name on the same disk, flushed, and renamed, so that it is there whole or not at all;
it is loaded only if every byte is what was written; and loading never runs code (safetensors, weights_only).
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import CheckpointIO
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from lmexp.config.train import TrainConfig
from lmexp.errors import DataError, RunError, StorageError
from lmexp.models.adapters import build_model, merge, require_trained_embedding, under_adapters
from lmexp.models.classifier import LabelHead, without_token_head
from lmexp.models.state import LanguageModel
from lmexp.models.weights import grown
from lmexp.models.weights import load as load_weights
from lmexp.runs import RunFolder, find_run
from lmexp.tokenization import Tokenizer
from lmexp.tokenization import load as load_tokenizer

WEIGHTS, STATE, META = "weights.safetensors", "state.pt", "meta.json"
MODEL_PREFIX = "model."


@dataclass(frozen=True)
class LoadedRun:
    """A trained run in memory."""

    run: RunFolder
    config: TrainConfig
    tokenizer: Tokenizer
    model: LanguageModel
    step: int
    labels: tuple[str, ...] = ()
    """What its labels are called, where it tells some."""


def load_run(name: str | Path, checkpoint: str = "last") -> LoadedRun:
    """Return a run with its model, in evaluation mode on the CPU.

    `checkpoint` is last, best, or the name of a checkpoint such as step-000250.

    Raises:
        RunError: there is no such run, or it has no checkpoint.
        StorageError: no checkpoint of it is intact.
    """
    run = find_run(str(name))
    folder = find(run, checkpoint)
    config, tokenizer = run.config, load_tokenizer(run.tokenizer)
    expected = run.record.get("tokenizer_hash")
    if expected != tokenizer.hash:
        raise RunError(f"{run.tokenizer}: not the tokenizer that this run was trained with ({expected})")
    labels = run.label_names
    model = build_model(config, tokenizer, run.architecture, labels=labels)
    weights = read_weights(folder)
    model.load_state_dict({k.removeprefix(MODEL_PREFIX): v for k, v in weights.items() if k.startswith(MODEL_PREFIX)})
    return LoadedRun(run, config, tokenizer, model.eval(), step_of(folder), labels)


def start_from(model: LanguageModel, run: Path, checkpoint: str, weights_sha256: str) -> None:
    """Copy the weights of another run into a model.

    Raises:
        RunError: they are not there any more, have changed, or are not those of such a model.
        StorageError: the checkpoint is damaged.
    """
    source = load_run(run, checkpoint)
    if read_meta(source.run.checkpoints / checkpoint)["files"][WEIGHTS]["sha256"] != weights_sha256:
        raise RunError(f"init_from: {run} has other weights than when this run began; start it again: resume=never")
    weights = under_adapters(model, merge(source.model))
    rows = len(source.model.head.weight), len(model.head.weight)
    if isinstance(model.head, LabelHead):
        weights = without_token_head(model, weights)
    elif rows[0] < rows[1]:
        require_trained_embedding(model)
        weights = grown(weights, {name: tuple(t.shape) for name, t in model.state_dict().items()}, rows=rows)
    try:
        load_weights(model, weights)
    except DataError as error:
        raise RunError(f"init_from: {run} is not a run of such a model: {error}") from None


def find(run: RunFolder, checkpoint: str = "last") -> Path:
    """Return the folder of a checkpoint: the newest that is intact, the best, or one by name."""
    if checkpoint == "last":
        newest = newest_intact(run.checkpoints)
        if newest is None:
            raise RunError(f"{run.path} has no checkpoint yet; train it for longer, or see its log.txt")
        return newest
    name = run.record.get("best_checkpoint") if checkpoint == "best" else checkpoint
    folder = run.checkpoints / str(name)
    if not folder.is_dir():
        there = ", ".join(path.name for path in listing(run.checkpoints)) or "none"
        raise RunError(f"{run.path} has no checkpoint '{checkpoint}'; it has: {there}")
    verify(folder)
    return folder


def newest_intact(checkpoints: Path) -> Path | None:
    """Return the newest checkpoint whose bytes are what was written.

    Raises:
        StorageError: there are checkpoints, and none is intact.
    """
    damaged = []
    for folder in reversed(listing(checkpoints)):
        try:
            verify(folder)
            return folder
        except StorageError as error:
            damaged.append(str(error))
    if damaged:
        raise StorageError("no checkpoint is intact:\n  " + "\n  ".join(damaged))
    return None


def listing(checkpoints: Path) -> list[Path]:
    """Return the folders of checkpoints, the oldest first."""
    found = [path for path in checkpoints.glob("step-*") if path.name[5:].isdigit()]
    return sorted(found, key=step_of)


def step_of(folder: Path) -> int:
    """Return the optimizer step of a checkpoint."""
    return int(folder.name.removeprefix("step-"))


def read_meta(folder: Path) -> dict[str, Any]:
    """Return meta.json.

    Raises:
        StorageError: it is missing or damaged.
    """
    try:
        return json.loads((folder / META).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StorageError(f"{folder / META}: {error}") from None


def verify(folder: Path) -> None:
    """Compare size and sha256 of every file with meta.json.

    Raises:
        StorageError: naming the first file that differs.
    """
    meta = read_meta(folder)
    files = meta.get("files") if isinstance(meta, dict) else None
    if not isinstance(files, dict) or set(files) != {WEIGHTS, STATE}:
        raise StorageError(f"{folder / META}: it does not name the files of a checkpoint")
    for name, expected in files.items():
        try:
            actual = _describe(folder / name)
        except OSError as error:
            raise StorageError(f"{folder / name}: {error.strerror}") from None
        if actual != expected:
            raise StorageError(f"{folder / name}: not what was written (size or sha256 differs)")


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Return the weights, tied ones under each of their names."""
    try:
        weights = load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise StorageError(f"{folder / WEIGHTS}: {error}") from None
    return weights | {name: weights[same] for name, same in read_meta(folder)["tied"].items()}


def write(folder: Path, weights: Mapping[str, Tensor]) -> None:
    """Write a checkpoint that holds the weights of a model and nothing to go on training from.

    Raises:
        StorageError: the disk is full or read-only.
    """
    try:
        state_dict = {f"{MODEL_PREFIX}{name}": tensor for name, tensor in weights.items()}
        _write(folder, {"state_dict": state_dict}, {"step": step_of(folder), "metrics": {}})
    except OSError as error:
        raise StorageError(f"{folder}: {error.strerror or error}; free some space") from None


class FolderCheckpointIO(CheckpointIO):
    """How Lightning writes and reads our folders."""

    def __init__(self) -> None:
        self.failures_in_a_row = 0
        self.last_failure = ""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write a checkpoint; a disk that fails is counted and leaves everything as it was."""
        try:
            _write(Path(path), checkpoint, storage_options or {})
            self.failures_in_a_row = 0
        except OSError as error:
            self.failures_in_a_row += 1
            self.last_failure = f"{path}: {error.strerror or error}"

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        folder = Path(path)
        verify(folder)
        try:
            state = torch.load(folder / STATE, map_location=map_location or "cpu", weights_only=True)
        except Exception as error:  # whatever a file that no lmexp wrote makes torch's reader raise
            raise StorageError(f"{folder / STATE}: cannot be loaded: {str(error).splitlines()[0]}") from None
        return {**state, "state_dict": read_weights(folder)}

    def remove_checkpoint(self, path: Any) -> None:
        shutil.rmtree(path, ignore_errors=True)


def remove_leftovers(checkpoints: Path) -> None:
    """Delete what a crash left half-written."""
    for part in checkpoints.glob("*.part"):
        shutil.rmtree(part, ignore_errors=True)


def _write(folder: Path, checkpoint: dict[str, Any], meta: dict[str, Any]) -> None:
    if folder.exists():  # the same step of the same run: the same bytes
        return
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        state = {key: value for key, value in checkpoint.items() if key != "state_dict"}
        weights, tied = _untie(checkpoint["state_dict"])
        try:
            save_file(weights, part / WEIGHTS)
        except SafetensorError as error:  # its way to say that the disk is full
            raise OSError(0, str(error)) from None
        _save_state(state, part / STATE)
        files = {name: _describe(part / name) for name in (WEIGHTS, STATE)}
        (part / META).write_text(json.dumps({"format": 1, **meta, "tied": tied, "files": files}, indent=1))
        for path in (*part.iterdir(), part):
            _flush(path)
        part.rename(folder)
        _flush(folder.parent)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def _save_state(state: dict[str, Any], path: Path) -> None:
    try:
        torch.save(state, path)
    except RuntimeError as error:  # torch's zip writer turns a full disk into this
        raise OSError(0, str(error).splitlines()[0]) from None


def _untie(state_dict: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return each weight once, and which names mean the same one."""
    weights: dict[str, Tensor] = {}
    first: dict[tuple[int, torch.Size], str] = {}
    tied = {}
    for name, tensor in state_dict.items():
        key = (tensor.data_ptr(), tensor.shape)
        if tensor.numel() and key in first:
            tied[name] = first[key]
        else:
            first[key] = name
            weights[name] = tensor.detach().cpu().contiguous()
    return weights, tied


def _describe(path: Path) -> dict[str, Any]:
    with open(path, "rb") as file:
        return {"size": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def best_of(checkpoints: Path, metric: str, *, lowest: bool, count: int) -> list[Path]:
    """Return the checkpoints with the best values of a metric, the best first."""
    scored: list[tuple[float, Path]] = list(_scored(checkpoints, metric))
    return [folder for _, folder in sorted(scored, key=lambda pair: pair[0] if lowest else -pair[0])][:count]


def _scored(checkpoints: Path, metric: str) -> Iterator[tuple[float, Path]]:
    for folder in listing(checkpoints):
        try:
            value = read_meta(folder).get("metrics", {}).get(metric)
        except StorageError:
            continue
        if value is not None:
            yield value, folder
