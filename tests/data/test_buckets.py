"""Examples of like length share a batch: each is seen once an epoch, and batch k depends on (seed, k) alone."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lmexp.config.data import TooLong
from lmexp.config.pairs import PairsConfig
from lmexp.config.tokenizer import BytesConfig
from lmexp.data.batches import IGNORE
from lmexp.data.bucket_batches import BucketBatches, BucketEvaluationBatches
from lmexp.data.buckets import remarks, summary, usable
from lmexp.data.corpus import Corpus, prepare
from lmexp.data.order import evaluation_batches, training_batches
from lmexp.errors import DataError

NUM_PAIRS = 90


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    random = np.random.default_rng(0)
    lines = [f"{n} {'x' * random.integers(60)}\t{'y' * random.integers(1, 40)}{n}" for n in range(NUM_PAIRS)]
    (tmp_path / "pairs.tsv").write_text("\n".join(lines))
    return prepare(config(tmp_path), BytesConfig())


def config(folder: Path, **changes: object) -> PairsConfig:
    path = str(folder / "pairs.tsv")
    settings = PairsConfig(path=path, batch_size=8, context_length=64, cache_dir=str(folder / "cache"))
    return replace(settings, **changes)  # type: ignore[arg-type]


def epoch(batches: BucketBatches, number: int = 0) -> list[list[int]]:
    count = int(batches.batches_per_epoch)
    return [batches[number * count + k]["numbers_B"].tolist() for k in range(count)]


@pytest.mark.parametrize("changes", [{}, {"batch_tokens": 256}], ids=["rows", "tokens"])
def test_every_example_is_in_one_batch_of_an_epoch(corpus: Corpus, tmp_path: Path, changes: dict[str, int]):
    file = corpus.open("train")
    batches = training_batches(file, config(tmp_path, **changes), seed=0, accumulate=1)
    assert isinstance(batches, BucketBatches)
    one, two = epoch(batches), epoch(batches, 1)
    wanted = list(range(len(file.document_starts) // 2))
    for drawn in (one, two):
        assert sorted(number for batch in drawn for number in batch) == wanted
    assert one != two
    assert sorted(map(len, one)) == sorted(map(len, two))  # so that epochs can be counted in steps
    again = training_batches(file, config(tmp_path, **changes), seed=0, accumulate=1)
    assert [again[k]["numbers_B"].tolist() for k in (7, 2)] == [batches[k]["numbers_B"].tolist() for k in (7, 2)]


def test_a_batch_has_no_more_tokens_than_it_may(corpus: Corpus, tmp_path: Path):
    batches = training_batches(corpus.open("train"), config(tmp_path, batch_tokens=256), seed=1, accumulate=1)
    for k in range(int(batches.batches_per_epoch)):
        batch = batches[k]
        assert max(batch["tokens_BT"].numel(), batch["source_BS"].numel()) <= 256
    counts = summary(corpus.open("train"), config(tmp_path, batch_tokens=256))
    assert counts["filled"] > 0.75


def test_two_ranks_share_a_batch_and_its_mean(corpus: Corpus, tmp_path: Path):
    file, settings = corpus.open("train"), config(tmp_path)
    whole = training_batches(file, settings, seed=3, accumulate=2)
    ranks = [training_batches(file, settings, seed=3, accumulate=2, rank=rank, world_size=2) for rank in range(2)]
    for k in range(2 * int(whole.batches_per_epoch)):
        one, parts = whole[k], [rank[k] for rank in ranks]
        numbers = [number for part in parts for number in part["numbers_B"].tolist()]
        learned = [part for part in parts if (part["targets_BT"] != IGNORE).any()]
        assert set(one["numbers_B"].tolist()) <= set(numbers)
        assert sum(int((part["targets_BT"] != IGNORE).sum()) for part in learned) == (one["targets_BT"] != IGNORE).sum()
        assert {part["mean_learned"] for part in parts} == {one["mean_learned"] / 2}
    in_step = sum(int((whole[k]["targets_BT"] != IGNORE).sum()) for k in (4, 5))
    assert whole[4]["mean_learned"] == in_step / 2


def test_a_pair_is_read_and_predicted_as_it_is_written(corpus: Corpus, tmp_path: Path):
    file, settings = corpus.open("train"), config(tmp_path)
    batch = training_batches(file, settings, seed=0, accumulate=1)[0]
    end = corpus.tokenizer.end_of_document_id
    for row, number in enumerate(batch["numbers_B"].tolist()):
        starts = np.append(np.asarray(file.document_starts), len(file.ids))
        source = file.ids[starts[2 * number] : starts[2 * number + 1]].tolist()
        target = file.ids[starts[2 * number + 1] : starts[2 * number + 2]].tolist()
        assert batch["source_BS"][row][batch["source_mask_BS"][row]].tolist() == source[:64]
        learned = batch["targets_BT"][row] != IGNORE
        assert batch["tokens_BT"][row][learned].tolist() == target[:-1]
        assert batch["targets_BT"][row][learned].tolist() == target[1:]
        assert (source[-1], target[0], target[-1]) == (end, end, end)
        text = corpus.tokenizer.decode(source)
        assert text.split()[0] == corpus.tokenizer.decode(target).lstrip("y")


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_an_evaluation_predicts_every_target_once(corpus: Corpus, tmp_path: Path, world_size: int):
    file = corpus.open("val")
    splits = [
        evaluation_batches(file, config(tmp_path), rank=rank, world_size=world_size) for rank in range(world_size)
    ]
    numbers, learned = [], 0
    for split in splits:
        assert isinstance(split, BucketEvaluationBatches)
        assert len(split)
        for index in range(len(split)):
            batch = split[index]
            learned += int((batch["targets_BT"] != IGNORE).sum())
            numbers += batch["numbers_B"][(batch["targets_BT"] != IGNORE).any(1)].tolist()
    assert sorted(numbers) == list(range(len(file.document_starts) // 2))
    assert learned == file.counts.learned


def test_what_is_too_long_is_cut_or_left_out_and_counted(corpus: Corpus, tmp_path: Path):
    file = corpus.open("train")
    cut, dropped = (config(tmp_path, context_length=20, too_long=choice) for choice in TooLong)
    assert usable(file, cut).longest.max() == 20
    assert usable(file, cut).num_cut == usable(file, dropped).num_dropped > 0
    assert len(usable(file, cut)) == len(usable(file, dropped)) + usable(file, dropped).num_dropped
    (remark,) = remarks("train", summary(file, cut), cut)
    assert "longer than data.context_length=20 and are cut" in remark
    (remark,) = remarks("train", summary(file, dropped), dropped)
    assert "left out" in remark
    with pytest.raises(DataError, match=r"all .* are too long; raise"):
        training_batches(file, replace(dropped, context_length=1), seed=0, accumulate=1)


def test_padding_is_zero_and_targets_beyond_are_ignored(corpus: Corpus, tmp_path: Path):
    batch = training_batches(corpus.open("train"), config(tmp_path), seed=0, accumulate=1)[1]
    assert (batch["source_BS"][~batch["source_mask_BS"]] == 0).all()
    beyond = batch["targets_BT"] == IGNORE
    assert (batch["tokens_BT"][beyond] == 0).all()
    assert batch["num_tokens"] == int(batch["source_mask_BS"].sum() + (~beyond).sum())
    assert batch["tokens_BT"].dtype == torch.int64
