"""A checkpoint is there whole or not at all, and is loaded only if every byte is what was written."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lmexp import checkpoints, load_run, train
from lmexp.checkpoints import FolderCheckpointIO
from lmexp.errors import RunError, StorageError
from lmexp.runs import RunFolder
from tests.training.setups import tiny


def some_checkpoint(value: float = 1.0) -> dict:
    weight = torch.full((8, 4), value)
    return {
        "state_dict": {"model.embedding.weight": weight, "model.head.weight": weight, "model.bias": torch.zeros(3)},
        "optimizer_states": [{"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 0.1}]}],
        "lmexp": {"batches_seen": 7},
    }


def save(folder: Path, step: int = 1) -> Path:
    path = folder / f"step-{step:06d}"
    FolderCheckpointIO().save_checkpoint(
        some_checkpoint(step), path, {"step": step, "metrics": {"val/loss_nats": 9.0 - step}}
    )
    return path


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    loaded = FolderCheckpointIO().load_checkpoint(save(tmp_path))
    expected = some_checkpoint()
    for name, tensor in expected["state_dict"].items():
        assert torch.equal(loaded["state_dict"][name], tensor)
    assert loaded["lmexp"] == expected["lmexp"]
    assert loaded["optimizer_states"][0]["state"][0]["step"] == 3


def test_tied_weights_are_stored_once(tmp_path: Path) -> None:
    meta = checkpoints.read_meta(save(tmp_path))
    assert meta["tied"] == {"model.head.weight": "model.embedding.weight"}


@pytest.mark.parametrize("name", [checkpoints.WEIGHTS, checkpoints.STATE])
@pytest.mark.parametrize("damage", ["truncate", "flip", "delete", "grow"])
def test_every_kind_of_damage_is_found_and_the_one_before_is_taken(tmp_path: Path, name: str, damage: str) -> None:
    good, bad = save(tmp_path, 1), save(tmp_path, 2)
    path = bad / name
    content = bytearray(path.read_bytes())
    if damage == "truncate":
        path.write_bytes(content[:-1])
    elif damage == "flip":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    elif damage == "grow":
        path.write_bytes(content + b"x")
    else:
        path.unlink()
    with pytest.raises(StorageError, match=name):
        FolderCheckpointIO().load_checkpoint(bad)
    assert checkpoints.newest_intact(tmp_path) == good


@pytest.mark.parametrize("content", ["", "{", "[]", '{"files": {}}', "null"])
def test_a_damaged_meta_file_is_found(tmp_path: Path, content: str) -> None:
    good, bad = save(tmp_path, 1), save(tmp_path, 2)
    (bad / checkpoints.META).write_text(content)
    assert checkpoints.newest_intact(tmp_path) == good


def test_no_intact_checkpoint_is_an_error_that_names_each(tmp_path: Path) -> None:
    (save(tmp_path) / checkpoints.WEIGHTS).unlink()
    with pytest.raises(StorageError, match=r"no checkpoint is intact:\n  .*weights.safetensors"):
        checkpoints.newest_intact(tmp_path)


def test_a_pickle_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "executed",))

    folder = save(tmp_path)
    torch.save({"lmexp": Payload()}, folder / checkpoints.STATE)
    meta = checkpoints.read_meta(folder)
    meta["files"][checkpoints.STATE] = checkpoints._describe(folder / checkpoints.STATE)
    (folder / checkpoints.META).write_text(json.dumps(meta))
    with pytest.raises(StorageError, match="cannot be loaded"):
        FolderCheckpointIO().load_checkpoint(folder)
    assert not (tmp_path / "executed").exists()


def test_a_full_disk_leaves_nothing_half_written_and_nothing_lost(tmp_path: Path) -> None:
    program = """
import resource, signal, sys
from pathlib import Path
from tests.test_checkpoints import save, some_checkpoint, FolderCheckpointIO
import torch
folder = Path(sys.argv[1])
save(folder, 1)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
io = FolderCheckpointIO()
large = some_checkpoint(); large["state_dict"]["model.large"] = torch.zeros(100_000)
io.save_checkpoint(large, folder / "step-000002", {})
print(io.failures_in_a_row, io.last_failure)
large = some_checkpoint(); large["lmexp"]["large"] = torch.zeros(100_000)
io.save_checkpoint(large, folder / "step-000003", {})
print(io.failures_in_a_row, sorted(path.name for path in folder.iterdir()))
"""
    answer = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    first, second = answer.stdout.splitlines()
    assert first.startswith("1 ")
    assert "step-000002" in first
    assert second == "2 ['step-000001']"
    checkpoints.verify(tmp_path / "step-000001")


def test_the_best_are_found_by_their_metric(tmp_path: Path) -> None:
    folders = [save(tmp_path, step) for step in (1, 2, 3)]
    assert checkpoints.best_of(tmp_path, "val/loss_nats", lowest=True, count=2) == [folders[2], folders[1]]
    assert checkpoints.best_of(tmp_path, "val/loss_nats", lowest=False, count=1) == [folders[0]]
    assert checkpoints.best_of(tmp_path, "val/other", lowest=True, count=1) == []


def test_step_numbers_above_a_million_sort_as_numbers(tmp_path: Path) -> None:
    assert checkpoints.newest_intact(tmp_path) is None
    folders = [save(tmp_path, step) for step in (1_000_000, 999_999)]
    assert checkpoints.newest_intact(tmp_path) == folders[0]


def test_load_run_gives_the_trained_model(folder: Path, text_file: Path) -> None:
    run = train(tiny(text_file, "model=transformer_tiny"))
    loaded = load_run(run.path)
    assert loaded.step == 12
    assert not loaded.model.training
    weights = checkpoints.read_weights(checkpoints.find(run))
    for name, weight in loaded.model.state_dict().items():
        assert torch.equal(weight, weights[f"model.{name}"])
    assert load_run(run.path.name[-6:], "best").step == int(run.record["best_checkpoint"][5:])


def test_load_run_refuses_a_changed_tokenizer(folder: Path, text_file: Path) -> None:
    run = train(tiny(text_file, "model=transformer_tiny"))
    run.update(tokenizer_hash="another")
    with pytest.raises(RunError, match="not the tokenizer that this run was trained with"):
        load_run(run.path)


def test_load_run_says_which_checkpoints_there_are(folder: Path, text_file: Path) -> None:
    run = train(tiny(text_file, "model=transformer_tiny"))
    with pytest.raises(RunError, match=r"has no checkpoint 'step-000099'; it has: step-"):
        load_run(run.path, "step-000099")
    with pytest.raises(RunError, match="no checkpoint yet"):
        checkpoints.find(RunFolder(folder))
