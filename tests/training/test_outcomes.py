"""How runs end: with numbers, with a clear error and the right code, and nothing lost."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lmexp import compose, load_run, train
from lmexp.config.store import from_yaml
from lmexp.errors import DataError, NumericsError, RunError, StorageError
from lmexp.runs import RunFolder, list_runs
from lmexp.runs.summary import summary
from tests.training.setups import KINDS, outcome, tiny


def test_a_finished_run_has_everything_in_its_folder(folder: Path, text_file: Path) -> None:
    config = tiny(text_file, "model=transformer_tiny")
    run = train(config, command=["train", "model=transformer_tiny"])
    record = run.record
    assert record["status"] == "done"
    assert record["exit_code"] == 0
    assert record["step"] == record["max_steps"] == 12
    assert record["tokens"] == 12 * 4 * 16 * 2
    assert record["parameters"] == load_run(run.path).model.num_parameters()
    assert record["flops"] > 6 * record["tokens"] * 16
    for key in ("id", "seed", "created", "ended", "heartbeat", "pid", "host", "packages", "source_hash", "device"):
        assert record.get(key) is not None, key
    for metric in ("val/loss_nats", "val/bits_per_byte", "val/perplexity", "test/loss_nats", "best/val/loss_nats"):
        assert metric in record["metrics"]
    assert from_yaml(run.path / "config.yaml") == config
    assert {row["prompt"] for row in run.samples} == {"the"}


def test_the_summary_says_what_a_person_wants_to_know(folder: Path, text_file: Path) -> None:
    text = summary(train(tiny(text_file, "model=transformer_tiny")))
    for part in ("val loss", "bits per byte", "perplexity", "tokens/s", "parameters", "folder", "samples", "next"):
        assert part in text
    assert text.count("\n  lmexp ") == 3
    assert max(map(len, text.splitlines())) <= 120


def test_a_model_learns_one_batch_by_heart(folder: Path, text_file: Path) -> None:
    learn = ["model.hidden_size=64", "trainer.max_steps=150", "optimizer.learning_rate=0.01", "model.dropout=0"]
    run = train(tiny(text_file, "model=transformer_tiny", "debug=overfit", *learn, "trainer.accumulate=1"))
    assert run.record["metrics"]["train/loss_nats"] < 0.1


@pytest.mark.slow
def test_training_learns_the_grammar(folder: Path, text_file: Path) -> None:
    more = ["trainer.max_steps=150", "model.dropout=0", "model.hidden_size=64", "trainer.validate_every_steps=null"]
    for kind, rate in (("lstm contiguous", 0.01), ("transformer", 0.003), ("transformer with muon", 0.02)):
        run = train(tiny(text_file, *KINDS[kind], *more, f"optimizer.learning_rate={rate}", "data.context_length=32"))
        assert run.record["metrics"]["val/loss_nats"] < 1.5, kind  # the frequencies of the letters alone give 2.8


def test_a_loss_that_is_no_number_is_said_with_its_step_and_code_4(folder: Path, text_file: Path) -> None:
    config = tiny(
        text_file, "model=lstm_tiny", "optimizer=sgd", "optimizer.learning_rate=1e38", "trainer.gradient_clip_norm=null"
    )
    with pytest.raises(NumericsError, match=r"the training loss is (nan|inf) at step \d+; a lower optimizer") as error:
        train(config)
    assert error.value.exit_code == 4
    run = list_runs()[0]
    assert run.record["status"] == "failed"
    assert run.record["exit_code"] == 4


def test_a_bug_leaves_its_traceback_in_the_folder(
    folder: Path, text_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("a bug of ours")

    monkeypatch.setattr("lmexp.tasks.pretrain.Pretrain.loss", broken)
    with pytest.raises(ZeroDivisionError):
        train(tiny(text_file, "model=lstm_tiny"))
    run = list_runs()[0]
    assert run.record["error"] == "ZeroDivisionError: a bug of ours"
    assert "ZeroDivisionError: a bug of ours" in (run.path / "traceback.txt").read_text()


def test_too_little_text_is_said_before_a_folder_is_made(folder: Path) -> None:
    (folder / "short.txt").write_text("a few words only, " * 5)
    with pytest.raises(DataError, match=r"at most \d+ works"):
        train(tiny(folder / "short.txt", "model=transformer_tiny", "data.context_length=500"))
    assert not (folder / "outputs").exists()


def test_a_run_for_longer_takes_over_where_its_parent_ended(folder: Path, text_file: Path) -> None:
    constant = ["schedule=constant", "model=transformer_tiny"]
    short = train(tiny(text_file, *constant, "trainer.max_steps=8"))
    before = outcome(short)
    longer = train(compose("train", [f"resume={short.path}", "trainer.max_steps=12"]))
    assert longer.path != short.path
    assert outcome(short) == before
    assert longer.record["parent"] == {"id": short.record["id"], "step": 8}
    whole = train(tiny(text_file, *constant, "trainer.max_steps=12", "output_dir=whole"))
    assert outcome(longer)["weights"] == outcome(whole)["weights"]
    losses = [[row["train/loss_nats"] for row in run.metrics if "train/loss_nats" in row] for run in (longer, whole)]
    assert losses[0] == losses[1]


def test_an_unfinished_run_cannot_be_trained_for_longer(folder: Path, text_file: Path) -> None:
    run = train(tiny(text_file, "model=transformer_tiny"))
    config = compose("train", [f"resume={run.path}", "trainer.max_steps=40"])
    run.update(status="stopped")
    with pytest.raises(RunError, match="only a finished run can be trained for longer"):
        train(config)


def test_epochs_are_translated_to_steps(folder: Path, text_file: Path) -> None:
    config = tiny(text_file, "model=lstm_tiny", "trainer.max_epochs=0.02", "trainer.accumulate=1")
    run = train(config)
    tokens = run.record["max_steps"] * 4 * 16
    assert tokens == pytest.approx(0.02 * 60_000 * 0.9, rel=0.05)


def test_early_stopping_ends_a_run_and_it_is_done(folder: Path, text_file: Path) -> None:
    stop = ["callbacks=early_stopping", "callbacks.early_stopping.patience=2", "callbacks.early_stopping.min_delta=9"]
    run = train(tiny(text_file, "model=lstm_tiny", *stop, "trainer.max_steps=90"))
    assert run.record["status"] == "done"
    assert run.record["step"] == 9


def test_the_best_and_the_newest_checkpoints_are_kept(folder: Path, text_file: Path) -> None:
    keep = ["callbacks.checkpoint.keep_last=2", "callbacks.checkpoint.keep_best=1"]
    run = train(tiny(text_file, "model=transformer_tiny", *keep))
    assert sorted(path.name for path in run.checkpoints.iterdir()) == ["step-000009", "step-000012"]


def test_a_disk_that_fills_up_stops_the_run_with_code_3_and_keeps_what_was_there(folder: Path, text_file: Path) -> None:
    program = f"""
import resource, signal
from pathlib import Path
from lmexp import train
from lmexp.runs import list_runs
from lmexp.errors import StorageError
from tests.training.setups import tiny
from lmexp.checkpoints import FolderCheckpointIO
more = ["model=transformer_tiny", "model.hidden_size=64", "trainer.checkpoint_every_steps=1"]
config = tiny(Path({str(text_file)!r}), *more)
save = FolderCheckpointIO.save_checkpoint
def fill_the_disk(self, checkpoint, path, storage_options=None):
    if path.name == "step-000005":
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
    save(self, checkpoint, path, storage_options)
FolderCheckpointIO.save_checkpoint = fill_the_disk
try:
    train(config)
except StorageError as error:
    print(error.exit_code, error)
print(sorted(path.name for path in list_runs()[0].checkpoints.iterdir()))
"""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=200, check=True, env=environment
    )
    first, second = answer.stdout.splitlines()
    assert first.startswith("3 no checkpoint could be written: ")
    assert "resume=force goes on" in first
    assert "step-000004" in second
    assert ".part" not in second


def test_a_read_only_folder_is_said_in_one_line(folder: Path, text_file: Path) -> None:
    (folder / "outputs").write_text("a file where the folder should be")
    with pytest.raises(StorageError, match="free some space or choose another output_dir"):
        train(tiny(text_file, "model=lstm_tiny"))


def test_metrics_have_a_step_and_tokens_on_every_line(folder: Path, text_file: Path) -> None:
    run = train(tiny(text_file, "model=lstm_tiny"))
    lines = (run.path / "metrics.jsonl").read_text().splitlines()
    for row in map(json.loads, lines):
        assert row["tokens"] == row["step"] * 4 * 16 * 2
    logged = [row for row in run.metrics if "train/loss_nats" in row]
    assert [row["step"] for row in logged] == [5, 10]
    assert {"train/learning_rate", "train/gradient_norm", "train/tokens_per_second"} <= set(logged[0])


def test_a_profile_goes_to_the_run_folder(folder: Path, text_file: Path) -> None:
    run = train(tiny(text_file, "model=lstm_tiny", "debug=profile"))
    assert any(path.name.startswith("fit-profile") for path in run.path.iterdir())


def test_bf16_mixed_trains(folder: Path, text_file: Path) -> None:
    for kind in ("transformer", "lstm contiguous"):
        run = train(tiny(text_file, *KINDS[kind], "trainer.precision=bf16-mixed"))
        assert run.record["metrics"]["val/loss_nats"] < 6


def test_runs_folder_is_a_run_folder(folder: Path) -> None:
    with pytest.raises(RunError, match=r"config\.yaml cannot be read"):
        _ = RunFolder(folder).config
