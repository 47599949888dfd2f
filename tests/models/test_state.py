"""What a model remembers between two calls, over every option and the variants of each."""

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.models.setups import (
    CONTEXT_LENGTH,
    DECODERS,
    ENCODER_DECODERS,
    assert_close,
    new_model,
    random_tokens,
    read_in_chunks,
    rough_model,
)

CONFIGS = DECODERS | ENCODER_DECODERS
EVERY_MODEL = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
BOUNDED = {label: config for label, config in CONFIGS.items() if new_model(config).max_length is not None}
EVERY_BOUNDED_MODEL = pytest.mark.parametrize("config", BOUNDED.values(), ids=BOUNDED.keys())


def tensors_of(state: Any) -> list[Tensor]:
    """Return the numbers that a state and the states in it hold; masks have no gradient."""
    if isinstance(state, Tensor):
        return [state] if state.is_floating_point() else []
    return [tensor for value in getattr(state, "__dict__", {}).values() for tensor in tensors_of(value)]


@EVERY_MODEL
@pytest.mark.parametrize("size", [1, 3, 8, 13])
def test_reading_in_chunks_with_a_state_equals_reading_at_once(config: Any, size: int) -> None:
    model, tokens = rough_model(config), random_tokens(2, 13)
    at_once, _ = model(tokens)
    assert_close(model.head.logits(read_in_chunks(model, tokens, size)), model.head.logits(at_once))


@EVERY_MODEL
def test_a_state_counts_the_tokens_read(config: Any) -> None:
    model = rough_model(config)
    with torch.no_grad():
        state = model.new_state(2, 10)
        assert state.length == 0
        _, state = model(random_tokens(2, 3), state)
        _, state = model(random_tokens(2, 1), state)
    assert state.length == 4


@EVERY_BOUNDED_MODEL
def test_a_state_refuses_more_tokens_than_it_has_room_for(config: Any) -> None:
    model = rough_model(config)
    with torch.no_grad():
        _, state = model(random_tokens(1, 4), model.new_state(1, 4))
        with pytest.raises(ValueError, match="a state for 4 tokens cannot hold 5"):
            model(random_tokens(1, 1), state)


@EVERY_MODEL
def test_the_window_can_be_filled_to_its_end(config: Any) -> None:
    model, tokens = rough_model(config), random_tokens(1, CONTEXT_LENGTH)
    assert model.max_length in (None, CONTEXT_LENGTH)
    at_once, _ = model(tokens)
    assert_close(read_in_chunks(model, tokens, 1), at_once)


LENGTHS = [6, 1, 4]


def padded(tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Return rows of different length with padding before them, and the documents: padding is one of its own."""
    is_text = torch.stack([torch.arange(6) >= 6 - length for length in LENGTHS])
    return torch.where(is_text, tokens, 0), is_text.long()


@EVERY_MODEL
@pytest.mark.parametrize("size", [1, 2, 5])
def test_rows_of_different_length_go_on_as_each_would_alone(config: Any, size: int) -> None:
    model, prompts, rest = rough_model(config), random_tokens(3, 6), random_tokens(3, 5, seed=2)
    tokens, segments = padded(prompts)
    with torch.no_grad():
        hidden, state = model(tokens, model.new_state(3, 11), segments)
        parts = [hidden]
        for chunk in rest.split(size, dim=1):
            hidden, state = model(chunk, state)
            parts.append(hidden)
    together = model.head.logits(torch.cat(parts, dim=1))
    for row, length in enumerate(LENGTHS):
        alone, _ = model(torch.cat((prompts[row, 6 - length :], rest[row]))[None])
        assert_close(together[row, 6 - length :], model.head.logits(alone)[0])


@EVERY_MODEL
def test_the_selected_rows_of_different_length_go_on_as_those_rows(config: Any) -> None:
    model, prompts, rest = rough_model(config), random_tokens(3, 6), random_tokens(3, 3, seed=2)
    tokens, segments = padded(prompts)
    rows = torch.tensor([2, 1, 1])
    with torch.no_grad():
        _, state = model(tokens, model.new_state(3, 9), segments)
        hidden, _ = model(rest, state.select(rows))
    for number, row in enumerate(rows):
        alone, _ = model(torch.cat((prompts[row, 6 - LENGTHS[row] :], rest[number]))[None])
        assert_close(hidden[number], alone[0, -3:])


@EVERY_MODEL
def test_a_state_goes_on_with_the_last_document_of_each_row(config: Any) -> None:
    model, tokens = rough_model(config), random_tokens(2, 12)
    segments = torch.stack([torch.arange(12) >= 3, torch.arange(12) >= 7]).long()
    at_once, _ = model(tokens, None, segments)
    with torch.no_grad():
        state, parts = model.new_state(2, 12), []
        for part in (slice(0, 5), slice(5, 9), slice(9, 12)):  # a document may begin in a later part
            hidden, state = model(tokens[:, part], state, segments[:, part])
            parts.append(hidden)
    assert_close(torch.cat(parts, dim=1), at_once)


@EVERY_BOUNDED_MODEL
def test_rows_without_padding_cost_no_mask(config: Any) -> None:
    model, tokens = rough_model(config), random_tokens(2, 4)
    with torch.no_grad():
        _, state = model(tokens, model.new_state(2, 8), torch.full_like(tokens, 3))
    assert getattr(state, "target", state).starts_B is None


@EVERY_MODEL
def test_the_selected_rows_of_a_state_go_on_as_those_rows(config: Any) -> None:
    model, tokens, rows = rough_model(config), random_tokens(3, 10), torch.tensor([2, 0, 0, 1])
    with torch.no_grad():
        _, state = model(tokens[:, :6], model.new_state(3, 10))
        selected = state.select(rows)
        assert selected.length == 6
        hidden, _ = model(tokens[rows, 6:], selected)
        first, state = model(tokens[:, 6:7], state)  # the rows that were selected from go on undisturbed
        rest, _ = model(tokens[:, 7:], state)
    at_once, _ = model(tokens)
    assert_close(hidden, at_once[rows, 6:])
    assert_close(torch.cat((first, rest), dim=1), at_once[:, 6:])


@EVERY_MODEL
def test_rows_that_were_one_row_can_go_different_ways(config: Any) -> None:
    model, prompt, ends = rough_model(config), random_tokens(1, 5), random_tokens(2, 3, seed=2)
    with torch.no_grad():
        _, state = model(prompt, model.new_state(1, 8))
        hidden, _ = model(ends, state.select(torch.tensor([0, 0])))
    at_once, _ = model(torch.cat((prompt.expand(2, -1), ends), dim=1))
    assert_close(hidden, at_once[:, 5:])


@EVERY_MODEL
def test_a_detached_state_is_the_same_without_history(config: Any) -> None:
    model, tokens = rough_model(config), random_tokens(2, 5)
    _, state = model(tokens, model.new_state(2, 8))
    detached = state.detach()
    assert detached.length == state.length == 5
    for before, after in zip(tensors_of(state), tensors_of(detached), strict=True):
        assert torch.equal(before, after)
        assert before.requires_grad
        assert not after.requires_grad
