"""Conversations in rows: as full as can be, each once an epoch, and what does not fit is counted."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmexp.config.chat import ChatConfig, PreferencesConfig, Template, TooLong
from lmexp.config.tokenizer import BPEConfig, BytesConfig
from lmexp.data.chat import Chat
from lmexp.data.corpus import Corpus, check_length, prepare
from lmexp.data.example_batches import ExampleBatches
from lmexp.data.order import training_batches
from lmexp.data.packing import pack, remarks, summary, usable
from lmexp.errors import DataError


@given(st.lists(st.integers(1, 50), max_size=60), st.integers(0, 2**31))
def test_bins_hold_every_item_once_and_no_more_than_fits(lengths: list[int], seed: int):
    given_lengths = np.array(lengths, dtype=np.int64)
    bins = pack(given_lengths, 50)
    assert sorted(item for one in bins for item in one) == list(range(len(lengths)))
    assert all(given_lengths[one].sum() <= 50 for one in bins)
    shuffled = np.random.default_rng(seed).permutation(given_lengths)
    fills = sorted(int(given_lengths[one].sum()) for one in bins)
    assert sorted(int(shuffled[one].sum()) for one in pack(shuffled, 50)) == fills


def test_long_tailed_lengths_fill_their_rows():
    lengths = np.random.default_rng(0).lognormal(4.5, 0.8, 20_000).astype(np.int64).clip(1, 1024)
    bins = pack(lengths, 1024)
    assert lengths.sum() / (len(bins) * 1024) > 0.995


def alpaca(shared_data: Path, cache: Path, **more: object) -> tuple[Corpus, ChatConfig]:
    path = str(shared_data / "sft" / "alpaca_en_demo.json")
    config = ChatConfig(path=path, context_length=512, cache_dir=str(cache), **more)  # type: ignore[arg-type]
    return prepare(config, BytesConfig()), config


def test_what_does_not_fit_is_cut_or_left_out_and_counted(shared_data: Path, tmp_path: Path):
    corpus, config = alpaca(shared_data, tmp_path)
    file = corpus.open("train")
    whole = np.diff(file.document_starts, append=len(file.ids)) - 1
    cut = summary(file, config)
    assert cut["cut"] + (whole <= 512).sum() == cut["used"] == len(whole) - cut["nothing_to_learn"]
    assert cut["filled"] > 0.97
    dropped = summary(file, replace(config, too_long=TooLong.drop))
    assert dropped["used"] == (whole <= 512).sum()
    assert dropped["too_long"] == (whole > 512).sum()
    said = [*remarks("train", cut, config), *remarks("train", dropped, config)]
    assert said == [
        f"train: {cut['cut']:,} of {cut['used']:,} conversations are longer than data.context_length=512 and are cut",
        f"train: {cut['nothing_to_learn']} conversations have no answer to learn and are left out",
        f"train: {dropped['too_long']} conversations are longer than data.context_length=512 and are left out",
    ]


def test_a_pair_that_fits_together_is_not_cut(tmp_path: Path):
    path = tmp_path / "pairs.jsonl"
    rows = [{"prompt": f"{n:02}", "chosen": "x" * (5 + 15 * (n % 2)), "rejected": "y" * 40} for n in range(40)]
    path.write_text("\n".join(map(json.dumps, rows)))
    config = PreferencesConfig(
        path=str(path), context_length=100, template=Template.plain, cache_dir=str(tmp_path), test_fraction=0
    )
    file = prepare(config, BytesConfig()).open("train")
    examples = usable(file, config)
    whole = np.diff(file.document_starts, append=len(file.ids)).reshape(-1, 2) - 1
    fits = whole.sum(axis=1) <= 100
    assert 0 < fits.sum() < len(whole)
    assert np.array_equal(examples.lengths[fits], whole[fits])
    assert (examples.lengths[~fits].sum(axis=1) == 100).all()
    said = list(remarks("train", summary(file, config), config))
    assert said == [f"train: {(~fits).sum()} of {len(whole)} pairs are longer than data.context_length=100 and are cut"]


def test_an_epoch_has_every_conversation_once_in_another_order_each_time(shared_data: Path, tmp_path: Path):
    corpus, config = alpaca(shared_data, tmp_path, batch_size=2)
    file = corpus.open("train")
    batches = training_batches(file, config, seed=3, accumulate=1)
    assert isinstance(batches, ExampleBatches)
    rows = batches.rows_per_epoch
    expected = sorted(usable(file, config).numbers.tolist())
    orders = []
    for epoch in range(2):
        units = [batches._bins(k)[row] for k in range(rows) for row in (0, 1)][epoch * rows : (epoch + 1) * rows]
        orders.append([unit for one in units for unit in one])
        assert sorted(batches.examples.numbers[orders[-1]].tolist()) == expected
    assert orders[0] != orders[1]


def test_ranks_have_the_parts_of_one_batch(shared_data: Path, tmp_path: Path):
    corpus, config = alpaca(shared_data, tmp_path, batch_size=4)
    file = corpus.open("train")
    one = training_batches(file, config, seed=3, accumulate=2)[5]
    two = [training_batches(file, config, seed=3, accumulate=2, rank=r, world_size=2)[5] for r in (0, 1)]
    for key in ("tokens_BT", "targets_BT", "segments_BT"):
        assert np.concatenate([part[key] for part in two]).tolist() == one[key].tolist()
    assert two[0]["mean_learned"] == two[1]["mean_learned"] == one["mean_learned"] / 2


def test_a_split_without_anything_to_learn_says_why(tmp_path: Path):
    path = tmp_path / "chat.jsonl"
    path.write_text("\n".join(f'{{"prompt": "{"x" * 60}{n}", "completion": "y"}}' for n in range(20)))
    config = ChatConfig(path=str(path), context_length=32, cache_dir=str(tmp_path))
    with pytest.raises(DataError, match=r"18 have no answer to learn in the first 32 tokens"):
        check_length(prepare(config, BytesConfig()), config)
    short = replace(config, too_long=TooLong.drop)
    with pytest.raises(DataError, match=r"all 18 are too long; raise data\.context_length, or cut them"):
        check_length(prepare(short, BytesConfig()), short)


def test_every_character_of_chinese_conversations_survives(shared_data: Path, tmp_path: Path):
    path = shared_data / "sft" / "alpaca_zh_demo.json"
    config = ChatConfig(path=str(path), cache_dir=str(tmp_path), template=Template.plain)
    for tokenizer in (BytesConfig(), BPEConfig(vocab_size=2500, max_training_characters=50_000)):
        corpus, source = prepare(config, tokenizer), Chat(config)
        for split in ("train", "val", "test"):
            file = corpus.open(split)
            ends = [*file.document_starts[1:].tolist(), len(file.ids)]
            conversations = [conversation for _, conversation in source.conversations(split)]
            for start, end, conversation in zip(file.document_starts, ends, conversations, strict=True):
                asked, answered = (message.content for message in conversation.messages)
                ids, is_learned = file.ids[start:end], file.is_learned[start:end]  # type: ignore[index]
                assert corpus.tokenizer.decode(ids[is_learned].tolist()) == answered
                assert corpus.tokenizer.decode(ids[~is_learned].tolist()) == f"User: {asked}\nAssistant: \n"
