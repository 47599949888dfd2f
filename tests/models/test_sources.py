"""What encoder-decoders promise about their source; the rest is in `test_contract.py` and `test_state.py`."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from lmexp.config.model import Attention, EncoderDecoderConfig, LSTMAttentionConfig
from lmexp.config.schema import build
from lmexp.models.heads import IGNORE
from lmexp.models.state import SourceModel
from tests.models.setups import (
    CONTEXT_LENGTH,
    ENCODER_DECODERS,
    VOCAB_SIZE,
    assert_close,
    new_model,
    random_tokens,
    rough_model,
)

EVERY_MODEL = pytest.mark.parametrize("config", ENCODER_DECODERS.values(), ids=ENCODER_DECODERS.keys())
SOURCE = random_tokens(3, 7, seed=5)
TARGET = random_tokens(3, 6, seed=6)


def rough(config: Any) -> SourceModel:
    """Return the encoder-decoder itself."""
    return rough_model(config).model


@EVERY_MODEL
def test_a_model_without_a_source_says_what_it_needs(config: Any) -> None:
    model = rough(config)
    for read in (lambda: model(TARGET), lambda: model.new_state(3, 8)):
        with pytest.raises(ValueError, match="reads a source first"):
            read()


@EVERY_MODEL
def test_every_token_sees_every_source_token(config: Any) -> None:
    model = rough(config)
    before, _ = model(TARGET, model.encode(SOURCE))
    for s in range(7):
        changed = SOURCE.clone()
        changed[:, s] = (changed[:, s] + 1) % VOCAB_SIZE
        after, _ = model(TARGET, model.encode(changed))
        assert (after - before).abs().amax(dim=2).min() > 1e-5


@EVERY_MODEL
def test_a_row_sees_its_own_source_only(config: Any) -> None:
    model = rough(config)
    together, _ = model(TARGET, model.encode(SOURCE))
    alone = [model(TARGET[r : r + 1], model.encode(SOURCE[r : r + 1]))[0] for r in range(3)]
    assert_close(together, torch.cat(alone))


@EVERY_MODEL
@pytest.mark.parametrize(
    "padding", [[7, 8, 9], [0, 1, 2], [0, 4, 9], [2, 5, 6]], ids=["end", "start", "both", "inside"]
)
def test_padding_of_the_source_changes_nothing(config: Any, padding: list[int]) -> None:
    mask = torch.ones(3, 10, dtype=torch.bool)
    mask[:, padding] = False
    outcomes = []
    for number in (None, 0, 1):
        model = rough(config)
        if number is None:
            state = model.encode(SOURCE)
        else:
            padded = torch.full((3, 10), number).masked_scatter(mask, SOURCE)
            state = model.encode(padded, mask)
        hidden, _ = model(TARGET, state)
        hidden.square().sum().backward()
        grads = [weight.grad for weight in model.parameters() if weight.grad is not None]
        outcomes.append((hidden, [grad / grad.abs().max() for grad in grads]))
    for hidden, grads in outcomes[1:]:
        assert_close(hidden, outcomes[0][0])
        for grad, expected in zip(grads, outcomes[0][1], strict=True):
            assert_close(grad, expected)


@EVERY_MODEL
def test_sources_of_different_length_are_read_as_if_alone(config: Any) -> None:
    model, lengths = rough(config), [7, 1, 4]
    mask = torch.arange(7) < torch.tensor(lengths)[:, None]
    together, _ = model(TARGET, model.encode(SOURCE, mask))
    for row, length in enumerate(lengths):
        alone, _ = model(TARGET[row : row + 1], model.encode(SOURCE[row : row + 1, :length]))
        assert_close(together[row : row + 1], alone)


@EVERY_MODEL
def test_an_empty_source_is_its_first_padding_token(config: Any) -> None:
    model, mask = rough(config), torch.ones(3, 7, dtype=torch.bool)
    mask[1] = False
    hidden, _ = model(TARGET, model.encode(SOURCE, mask))
    assert_close(hidden[1:2], model(TARGET[1:2], model.encode(SOURCE[1:2, :1]))[0])


@EVERY_MODEL
def test_gradients_reach_every_weight_of_the_encoder(config: Any) -> None:
    model = rough(config)
    encoder = dict(model.get_submodule("encoder").named_parameters())
    assert len(encoder) > 3
    hidden, _ = model(TARGET[:, :1], model.encode(random_tokens(3, CONTEXT_LENGTH)))
    model.head.nll_sum(hidden, TARGET[:, :1]).backward()
    for name, weight in encoder.items():
        assert weight.grad is not None, name
        assert weight.grad.abs().max() > 0, name


@EVERY_MODEL
def test_beams_take_their_source_and_their_past_along(config: Any) -> None:
    model, mask = rough(config), torch.arange(7) < torch.tensor([7, 3, 5])[:, None]
    rows, again = torch.tensor([2, 2, 0, 1]), torch.tensor([3, 1, 1])
    with torch.no_grad():
        at_once, _ = model(TARGET, model.encode(SOURCE, mask))
        _, state = model(TARGET[:, :2], model.encode(SOURCE, mask, max_length=6))
        middle, state = model(TARGET[rows, 2:4], state.select(rows))
        last, state = model(TARGET[rows[again], 4:], state.select(again))
    assert_close(middle, at_once[rows, 2:4])
    assert_close(last, at_once[rows[again], 4:])
    assert state.length == 6


@EVERY_MODEL
def test_the_source_is_read_once_however_many_tokens_follow(config: Any) -> None:
    model, calls = rough(config), []
    model.get_submodule("encoder").register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        state = model.encode(SOURCE, max_length=6)
        for token in TARGET.split(1, dim=1):
            _, state = model(token, state)
    assert len(calls) == 1


@EVERY_MODEL
def test_one_state_serves_two_readings_in_training(config: Any) -> None:
    model = rough(config)
    state = model.encode(SOURCE)
    first, _ = model(TARGET, state)
    assert state.length == 0
    assert_close(model(TARGET, state)[0], first)


@EVERY_MODEL
def test_operations_grow_with_the_length_that_is_looked_at(config: Any) -> None:
    model = new_model(config)
    looks = {"lstm_attention": 1, "encoder_decoder": 2 * 2 + (getattr(config, "num_encoder_layers", 0) or 2)}
    assert model.flops_per_token(20) - model.flops_per_token(10) == 12 * looks[config.name] * 16 * 10


LONGEST, NUM_LETTERS = 5, 12
BEGIN, END = 0, 1


def words_and_their_reversals(rows: int, random: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return sources, their masks, what the decoder reads (BEGIN first), and what it is to say (END last)."""
    lengths, index = torch.randint(2, LONGEST + 1, (rows, 1), generator=random), torch.arange(LONGEST)
    sources, mask = torch.randint(2, NUM_LETTERS, (rows, LONGEST), generator=random), index < lengths
    reversals = sources.gather(1, (lengths - 1 - index).clamp(min=0)).masked_fill(~mask, IGNORE)
    targets = F.pad(reversals, (0, 1), value=IGNORE).scatter(1, lengths, END)
    return sources, mask, F.pad(targets[:, :-1].clamp(min=0), (1, 0), value=BEGIN), targets


LEARNERS = [
    (EncoderDecoderConfig(num_layers=2, hidden_size=48), 240, 5e-3),
    (LSTMAttentionConfig(num_layers=1, hidden_size=64, attention=Attention.luong), 130, 1e-2),
    (LSTMAttentionConfig(num_layers=1, hidden_size=64, attention=Attention.bahdanau), 130, 1e-2),
]


@pytest.mark.slow
@pytest.mark.parametrize(("config", "steps", "rate"), LEARNERS, ids=["encoder_decoder", "luong", "bahdanau"])
def test_a_model_learns_to_reverse_words_and_says_them_with_its_state(config: Any, steps: int, rate: float) -> None:
    random = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    model = build(config, vocab_size=NUM_LETTERS, context_length=8)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda k: min(1, (k + 1) / 30) * (1 - k / steps))
    for _ in range(steps):
        sources, mask, read, targets = words_and_their_reversals(48, random)
        hidden, _ = model(read, model.encode(sources, mask))
        loss = model.head.nll_sum(hidden, targets) / (targets != IGNORE).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    sources, mask, read, targets = words_and_their_reversals(200, random)
    token, said = read[:, :1], []
    with torch.no_grad():
        state = model.eval().encode(sources, mask, max_length=LONGEST + 1)
        for _ in range(LONGEST + 1):
            hidden, state = model(token, state)
            token = model.head.logits(hidden).argmax(-1)
            said.append(token)
    is_right = (torch.cat(said, dim=1) == targets) | (targets == IGNORE)
    assert is_right.all(dim=1).float().mean() > 0.95
