"""Which tokens stand in which batch."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lmexp.config.data import DataConfig, Order, PythonDocsConfig
from lmexp.data.batches import IGNORE, ContiguousBatches, EvaluationBatches, ShuffledBatches
from lmexp.data.datamodule import From
from lmexp.data.order import training_batches
from lmexp.errors import DataError
from lmexp.tokenization import TokenFile
from lmexp.tokenization.token_files import SplitCounts

ORDERS = st.sampled_from(Order)


def numbers(num_tokens: int, document_starts: tuple[int, ...] = (0,)) -> TokenFile:
    """Tokens that are their own positions."""
    starts = np.array(document_starts, dtype=np.int64)
    counts = SplitCounts(tokens=num_tokens, documents=len(starts), bytes=num_tokens)
    return TokenFile(ids=np.arange(num_tokens, dtype=np.uint32), document_starts=starts, counts=counts)


def config(batch_size: int, context_length: int, order: Order = Order.shuffled, **settings) -> DataConfig:
    return PythonDocsConfig(batch_size=batch_size, context_length=context_length, order=order, **settings)


def assert_same(one: dict, other: dict) -> None:
    assert one.keys() == other.keys()
    for key in one:
        assert torch.equal(torch.as_tensor(one[key]), torch.as_tensor(other[key])), key


# -- training --------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(data=st.data(), order=ORDERS, world_size=st.sampled_from([1, 2, 4]), segments=st.booleans())
def test_the_ranks_together_have_the_rows_of_one(data, order: Order, world_size: int, segments: bool):
    rows, length = world_size * data.draw(st.integers(1, 3)), data.draw(st.integers(1, 9))
    accumulate = data.draw(st.integers(1, 3))
    file = numbers(rows * accumulate * length + data.draw(st.integers(1, 100)), (0, 5, 17))
    shape = config(rows, length, order, segments=segments)
    one = training_batches(file, shape, seed=3, accumulate=accumulate)
    ranks = [
        training_batches(file, shape, seed=3, accumulate=accumulate, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    for k in data.draw(st.lists(st.integers(0, 10_000), min_size=1, max_size=5)):
        parts = [batches[k] for batches in ranks]
        for key, value in one[k].items():
            if key != "micro_step":
                assert torch.equal(torch.cat([part[key] for part in parts]), value)


@pytest.mark.parametrize("order", Order)
def test_a_batch_depends_on_the_seed_and_its_number_alone(order: Order):
    def fresh(seed: int):
        return training_batches(numbers(1000), config(4, 10, order), seed=seed, accumulate=2)

    read_through = fresh(1)
    for k in range(60):
        assert_same(read_through[k], fresh(1)[k])


def test_another_seed_gives_another_order():
    one, other = (ShuffledBatches(numbers(1000), config(4, 10), seed=seed) for seed in (0, 1))
    assert not torch.equal(one[0]["tokens_BT"], other[0]["tokens_BT"])


@pytest.mark.parametrize("order", Order)
def test_targets_are_the_tokens_one_later(order: Order):
    batches = training_batches(numbers(200), config(4, 10, order), seed=0, accumulate=1)
    for k in range(30):
        batch = batches[k]
        assert batch["tokens_BT"].shape == (4, 10)
        assert batch["tokens_BT"].dtype == torch.int64
        assert torch.equal(batch["targets_BT"], batch["tokens_BT"] + 1)
        assert torch.equal(batch["tokens_BT"], batch["tokens_BT"][:, :1] + torch.arange(10))
        assert batch["micro_step"] == k


@settings(max_examples=60, deadline=None)
@given(num_tokens=st.integers(2, 300), length=st.integers(1, 20), rows=st.integers(1, 7), seed=st.integers(0, 5))
def test_each_epoch_reads_each_window_once(num_tokens: int, length: int, rows: int, seed: int):
    length = min(length, num_tokens - 1)
    batches = ShuffledBatches(numbers(num_tokens), config(rows, length), seed=seed)
    windows = batches.windows_per_epoch
    assert batches.batches_per_epoch == windows / rows
    read = torch.cat([batches[k]["tokens_BT"] for k in range(-(-3 * windows // rows))])
    for epoch in read[: 3 * windows].split(windows):
        starts = sorted(epoch[:, 0].tolist())
        assert starts == [starts[0] + i * length for i in range(windows)]
        assert starts[-1] + length < num_tokens
        assert num_tokens - windows * length < 2 * length + 1  # what an epoch leaves out


def test_epochs_differ_in_order_and_offset():
    batches = ShuffledBatches(numbers(1000), config(99, 10), seed=0)
    epochs = [batches[k]["tokens_BT"][:, 0] for k in range(6)]
    assert len({tuple(epoch.tolist()) for epoch in epochs}) == 6
    assert len({int(epoch[0]) % 10 for epoch in epochs}) > 1


@pytest.mark.parametrize("order", Order)
def test_limit_batches_repeats_the_first_ones(order: Order):
    all_batches = training_batches(numbers(1000), config(4, 10, order), seed=0, accumulate=1)
    limited = training_batches(numbers(1000), config(4, 10, order, limit_batches=3), seed=0, accumulate=1)
    for k in range(9):
        assert_same(limited[k] | {"micro_step": 0}, all_batches[k % 3] | {"micro_step": 0})


def test_limit_batches_counts_micro_steps_in_contiguous_order():
    limited = ContiguousBatches(numbers(1000), config(2, 5, Order.contiguous, limit_batches=4), accumulate=2)
    starts = [limited[k]["tokens_BT"][:, 0].tolist() for k in range(8)]
    assert starts[4:] == starts[:4]
    assert len({tuple(start) for start in starts}) == 4


@settings(max_examples=60, deadline=None)
@given(rows=st.integers(1, 4), length=st.integers(1, 9), accumulate=st.integers(1, 3), more=st.integers(1, 200))
def test_streams_go_on_where_they_stopped(rows: int, length: int, accumulate: int, more: int):
    streams = rows * accumulate
    file = numbers(streams * length + more)
    batches = ContiguousBatches(file, config(rows, length, Order.contiguous), accumulate=accumulate)
    num_batches = int(batches.batches_per_epoch)
    epoch = [batches[k] for k in range(num_batches)]
    for k in range(accumulate, num_batches):  # accumulate slots have a state each
        assert torch.equal(epoch[k]["tokens_BT"][:, 0], epoch[k - accumulate]["targets_BT"][:, -1])
    read = torch.cat([batch["tokens_BT"].flatten() for batch in epoch])
    assert len(read.unique()) == len(read)
    assert len(file.ids) - len(read) <= streams * length
    for k in range(3 * num_batches):
        assert torch.equal(batches[k]["tokens_BT"], epoch[k % num_batches]["tokens_BT"])
        assert batches[k]["resets_B"].tolist() == [k % num_batches < accumulate] * rows


@pytest.mark.parametrize(
    ("order", "accumulate", "longest"), [("shuffled", 1, 100), ("contiguous", 1, 25), ("contiguous", 5, 5)]
)
def test_the_longest_context_that_is_named_works(order: str, accumulate: int, longest: int):
    file = numbers(101)
    with pytest.raises(DataError, match=f"; at most {longest} works$"):
        training_batches(file, config(4, longest + 1, Order[order]), seed=0, accumulate=accumulate)
    batches = training_batches(file, config(4, longest, Order[order]), seed=0, accumulate=accumulate)
    for k in range(2 * accumulate):
        assert torch.equal(batches[k]["targets_BT"], batches[k]["tokens_BT"] + 1)


# -- evaluation ------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(
    num_tokens=st.integers(0, 120),
    rows=st.integers(1, 9),
    length=st.integers(1, 20),
    world_size=st.integers(1, 4),
    order=ORDERS,
)
def test_evaluation_predicts_each_token_but_the_first_once(
    num_tokens: int, rows: int, length: int, world_size: int, order: Order
):
    counts = np.zeros(num_tokens, dtype=int)
    for rank in range(world_size):
        batches = EvaluationBatches(numbers(num_tokens), config(rows, length, order), rank=rank, world_size=world_size)
        for index in range(len(batches)):
            batch = batches[index]
            predicted = batch["targets_BT"] != IGNORE
            assert batch["tokens_BT"].shape == batch["targets_BT"].shape
            assert len(batch["tokens_BT"]) <= rows
            assert torch.equal(batch["targets_BT"][predicted], batch["tokens_BT"][predicted] + 1)
            np.add.at(counts, batch["targets_BT"][predicted].numpy(), 1)
    assert counts[:1].sum() == 0
    assert np.all(counts[1:] == 1)


def test_evaluation_streams_go_on_where_they_stopped():
    batches = EvaluationBatches(numbers(100), config(3, 7, Order.contiguous))
    for index in range(1, len(batches)):
        going_on = batches[index]["targets_BT"][:, 0] != IGNORE
        ends_B, starts_B = batches[index - 1]["targets_BT"][:, -1], batches[index]["tokens_BT"][:, 0]
        assert torch.equal(ends_B[going_on], starts_B[going_on])
    assert [batches[index]["resets_B"].all().item() for index in range(len(batches))] == [True] + [False] * 4


def test_evaluation_may_have_batches_of_its_own_size():
    batches = EvaluationBatches(numbers(101), config(4, 5, evaluation_batch_size=10))
    assert [len(batches[index]["tokens_BT"]) for index in range(len(batches))] == [10, 10]


# -- documents -------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", Order)
def test_segments_change_where_documents_begin(order: Order):
    starts = (0, 3, 3, 10, 11, 40)  # an empty document has no tokens to number
    file, shape = numbers(100, starts), config(2, 15, order, segments=True)
    training = training_batches(file, shape, seed=0, accumulate=1)
    evaluation = EvaluationBatches(file, shape)
    for batch in [*(training[k] for k in range(9)), *(evaluation[i] for i in range(len(evaluation)))]:
        tokens_BT, segments_BT = batch["tokens_BT"], batch["segments_BT"]
        assert segments_BT.shape == tokens_BT.shape
        expected = [[sum(start <= position for start in starts) for position in row] for row in tokens_BT.tolist()]
        assert segments_BT.tolist() == expected


def test_a_row_that_begins_with_a_document_begins_without_state():
    file, shape = numbers(61, (0, 10, 25, 30, 50)), config(2, 5, Order.contiguous, segments=True)
    batches = ContiguousBatches(file, shape, accumulate=1)
    for k in range(6):
        starts_B = batches[k]["tokens_BT"][:, 0]
        expected = [k == 0 or start in (10, 25, 30, 50) for start in starts_B.tolist()]
        assert batches[k]["resets_B"].tolist() == expected


def test_without_segments_a_state_is_carried_across_documents():
    batches = ContiguousBatches(numbers(61, (0, 10)), config(2, 5, Order.contiguous), accumulate=1)
    assert batches[2]["resets_B"].tolist() == [False, False]


def test_a_loader_starts_at_its_counter_and_has_the_length_of_the_whole():
    assert list(From(3, 6)) == [3, 4, 5]
    assert len(From(3, 6)) == 6
