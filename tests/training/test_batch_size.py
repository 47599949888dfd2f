"""data.batch_size=auto: what fits, and the same experiment whatever that is."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lmexp import compose, train
from lmexp.config import TrainConfig
from lmexp.config.data import AUTO
from lmexp.config.store import identity_hash
from lmexp.errors import ConfigError, Stopped
from lmexp.training.batch_size import largest_batch_size
from lmexp.training.costs import count
from lmexp.training.resident import available_bytes, resident_bytes
from tests.training.setups import KINDS, outcome, stop_at, tiny

WHOLE = ["data.batch_size=auto", "data.global_batch_size=24", "trainer.accumulate=1"]


def large(*more: str) -> TrainConfig:
    """Return a config whose activations outweigh all else."""
    return compose(
        "train",
        ["model=transformer_small", "optimizer=adamw", "tokenizer=bytes", "data.context_length=512", *WHOLE, *more],
    )


def test_the_most_rows_that_fit_are_taken() -> None:
    config = large()
    peaks = {rows: count(config.settled(rows)).memory.total for rows in (6, 8, 12)}
    assert largest_batch_size(config, limit_bytes=(peaks[8] + peaks[12]) // 2) == 8
    assert largest_batch_size(config, limit_bytes=(peaks[6] + peaks[8]) // 2) == 6


def test_a_machine_with_room_takes_the_whole_batch_at_once() -> None:
    assert largest_batch_size(large(), limit_bytes=10**15) == 24


def test_devices_share_the_rows_evenly() -> None:
    config = large("trainer.devices=4", "data.global_batch_size=20", "data.evaluation_batch_size=1")
    assert largest_batch_size(config, limit_bytes=10**15) == 20
    one_row_each = count(config.settled(4)).memory.total
    assert largest_batch_size(config, limit_bytes=one_row_each + 2**26) == 4  # 20 rows, five each, take far more


def test_where_not_even_one_row_fits_there_is_advice() -> None:
    with pytest.raises(
        ConfigError, match=r"data.batch_size=auto: 1 rows take .* free; lower data.evaluation_batch_size"
    ):
        largest_batch_size(large(), limit_bytes=10**6)


def test_the_hash_holds_the_word_and_not_what_it_comes_to() -> None:
    config = large()
    assert config.data.batch_size == AUTO
    assert identity_hash(config) != identity_hash(config.settled(8))
    assert (config.settled(8).data.batch_size, config.settled(8).trainer.accumulate) == (8, 3)


def test_a_given_batch_size_is_repeated_until_the_global_one_is_there() -> None:
    config = compose("train", ["data.batch_size=6", "data.global_batch_size=24"]).settled()
    assert (config.data.rows, config.trainer.accumulate, config.rows_per_step) == (6, 4, 24)


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (["data.batch_size=auto"], "data.global_batch_size: must be given with data.batch_size=auto"),
        (["data.batch_size=many"], "data.batch_size: must be a whole number or auto, not 'many'"),
        (["data.batch_size=4.5"], "data.batch_size: must be a whole number or auto, not 4.5"),
        (["data.batch_size=16", "data.global_batch_size=40"], "40 rows cannot be cut into micro-steps of 16"),
        ([*WHOLE, "trainer.accumulate=2"], "trainer.accumulate: follows from data.global_batch_size"),
        ([*WHOLE, "data.limit_batches=3"], "data.limit_batches: counts batches, which auto makes as large"),
        ([*WHOLE, "trainer.devices=5"], "data.global_batch_size: 24 rows cannot be shared evenly by 5 devices"),
    ],
)
def test_what_cannot_be_is_said_before_anything_starts(overrides: list[str], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        compose("train", overrides)


@pytest.mark.parametrize("kind", ["transformer", "lstm contiguous"])
def test_an_auto_run_is_bit_by_bit_the_run_of_its_number(kind: str, folder: Path, text_file: Path) -> None:
    auto = train(tiny(text_file, *KINDS[kind], *WHOLE))
    assert auto.record["batch_size"] == 24
    number = train(tiny(text_file, *KINDS[kind], "data.batch_size=24", "trainer.accumulate=1"))
    assert auto.path != number.path
    assert outcome(auto)["weights"] == outcome(number)["weights"]
    assert [row["train/loss_nats"] for row in auto.metrics if "train/loss_nats" in row] == [
        row["train/loss_nats"] for row in number.metrics if "train/loss_nats" in row
    ]


@pytest.mark.parametrize("kind", ["transformer", "lstm contiguous"])
def test_smaller_micro_steps_train_on_the_same_rows(kind: str, folder: Path, text_file: Path) -> None:
    config = tiny(text_file, *KINDS[kind], *WHOLE, "model.dropout=0")
    expected = train(config)
    run = train(tiny(text_file, *KINDS[kind], *WHOLE, "model.dropout=0", "data.batch_size=6"))
    losses = [[row["train/loss_nats"] for row in r.metrics if "train/loss_nats" in row] for r in (expected, run)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def test_a_stopped_auto_run_goes_on_with_what_it_began_with(
    folder: Path, text_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny(text_file, *KINDS["transformer"], *WHOLE)
    expected = outcome(train(config))
    monkeypatch.chdir(folder.parent)
    config = tiny(text_file, *KINDS["transformer"], *WHOLE, f"output_dir={folder.parent / 'again'}")
    stop_at(monkeypatch, 7)
    with pytest.raises(Stopped):
        train(config)
    monkeypatch.setattr("lmexp.training.batch_size.available_bytes", lambda: 0)  # nothing would fit now
    assert outcome(train(config)) == expected


def test_memory_that_is_there_can_be_used() -> None:
    assert resident_bytes() < available_bytes() <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def test_the_costs_say_what_auto_comes_to(folder: Path) -> None:
    options = ["model=transformer_tiny", "tokenizer=bytes", *WHOLE]
    command = [sys.executable, "-m", "lmexp", "explain", "--cost", "--json", *options]
    said = json.loads(subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout)
    assert said["rows"] == {"per_micro_step": 24, "micro_steps_per_step": 1}
