"""What every model promises, over every option and the variants of each."""

import copy
import dataclasses
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lmexp.models.heads import IGNORE
from lmexp.models.state import LanguageModel
from tests.models.setups import CONTEXT_LENGTH, OURS, VOCAB_SIZE, assert_close, new_model, random_tokens, rough_model
from tests.models.setups import CONFIGS as BY_LABEL

pytestmark = pytest.mark.parametrize("config", BY_LABEL.values(), ids=BY_LABEL.keys())


def read_in_chunks(model: LanguageModel, tokens: Tensor, size: int) -> Tensor:
    with torch.no_grad():
        state, parts = model.new_state(len(tokens), tokens.shape[1]), []
        for chunk in tokens.split(size, dim=1):
            hidden, state = model(chunk, state)
            parts.append(hidden)
    return torch.cat(parts, dim=1)


def tensors_of(state: Any) -> list[Tensor]:
    return [value for value in vars(state).values() if isinstance(value, Tensor)]


def test_every_option_of_ours_is_here(config: Any) -> None:
    assert config.name in OURS
    assert set(OURS) == {config.name for config in BY_LABEL.values()}


def test_hidden_states_have_the_width_of_the_head(config: Any) -> None:
    model = new_model(config)
    hidden, _ = model(random_tokens(3, 7))
    assert hidden.shape == (3, 7, model.head.weight.shape[1])
    assert model.head.logits(hidden).shape == (3, 7, VOCAB_SIZE)
    assert model.head.nll(hidden, random_tokens(3, 7)).shape == (3, 7)


def test_one_row_of_one_token_is_enough(config: Any) -> None:
    model = new_model(config)
    hidden, _ = model(random_tokens(1, 1))
    model.head.nll_sum(hidden, random_tokens(1, 1)).backward()
    assert hidden.shape[:2] == (1, 1)


def test_rows_do_not_see_each_other(config: Any) -> None:
    model, tokens = rough_model(config), random_tokens(3, 9)
    together, _ = model(tokens)
    alone = [model(row[None])[0] for row in tokens]
    assert_close(together, torch.cat(alone))


def test_no_token_sees_a_later_one(config: Any) -> None:
    model, tokens = rough_model(config), random_tokens(2, 9)
    before, _ = model(tokens)
    for t in range(9):
        changed = tokens.clone()
        changed[:, t] = (changed[:, t] + 1) % VOCAB_SIZE
        after, _ = model(changed)
        assert torch.equal(after[:, :t], before[:, :t])
        assert (after[:, t:] - before[:, t:]).abs().amax(dim=(0, 2)).min() > 1e-4  # and every later one sees it


def test_the_gradient_of_a_hidden_state_reaches_earlier_tokens_only(config: Any) -> None:
    model = rough_model(config)
    embedded = []
    tables = [module for module in model.modules() if isinstance(module, nn.Embedding)]
    table = next(module for module in tables if module.num_embeddings == VOCAB_SIZE)
    table.register_forward_hook(lambda module, inputs, output: embedded.append(output) or output.retain_grad())
    hidden, _ = model(random_tokens(2, 9))
    hidden[:, 4].square().sum().backward()
    size = embedded[0].grad.abs().amax(dim=(0, 2))
    assert size[:5].min() > 0
    assert size[5:].max() == 0


@pytest.mark.parametrize("size", [1, 3, 8, 13])
def test_reading_in_chunks_with_a_state_equals_reading_at_once(config: Any, size: int) -> None:
    model, tokens = rough_model(config), random_tokens(2, 13)
    at_once, _ = model(tokens)
    assert_close(model.head.logits(read_in_chunks(model, tokens, size)), model.head.logits(at_once))


def test_a_state_counts_the_tokens_read(config: Any) -> None:
    model = rough_model(config)
    with torch.no_grad():
        state = model.new_state(2, 10)
        assert state.length == 0
        _, state = model(random_tokens(2, 3), state)
        _, state = model(random_tokens(2, 1), state)
    assert state.length == 4


def test_a_state_refuses_more_tokens_than_it_has_room_for(config: Any) -> None:
    model = rough_model(config)
    if model.max_length is None:
        pytest.skip("its state holds any number of tokens")
    with torch.no_grad():
        _, state = model(random_tokens(1, 4), model.new_state(1, 4))
        with pytest.raises(ValueError, match="a state for 4 tokens cannot hold 5"):
            model(random_tokens(1, 1), state)


def test_the_window_can_be_filled_to_its_end(config: Any) -> None:
    model, tokens = rough_model(config), random_tokens(1, CONTEXT_LENGTH)
    assert model.max_length in (None, CONTEXT_LENGTH)
    at_once, _ = model(tokens)
    assert_close(read_in_chunks(model, tokens, 1), at_once)


def test_packed_documents_are_read_as_if_alone(config: Any) -> None:
    model, tokens = rough_model(config), random_tokens(3, 12)
    cuts = [5, 1, 11]  # a border of its own in each row, down to a document of one token
    segments = torch.stack([(torch.arange(12) >= cut) + row for row, cut in enumerate(cuts)])
    packed, _ = model(tokens, None, segments)
    for row, cut in enumerate(cuts):
        for part in (slice(0, cut), slice(cut, 12)):
            alone, _ = model(tokens[row : row + 1, part])
            assert_close(packed[row : row + 1, part], alone)


def test_one_document_a_row_equals_no_segments(config: Any) -> None:
    model, tokens = rough_model(config), random_tokens(2, 9)
    with_segments, _ = model(tokens, None, torch.full_like(tokens, 7))
    assert_close(with_segments, model(tokens)[0])


def test_a_document_number_that_comes_back_is_another_document(config: Any) -> None:
    model, tokens = rough_model(config), random_tokens(1, 9)
    again, _ = model(tokens, None, torch.tensor([[0, 0, 0, 1, 1, 1, 0, 0, 0]]))
    another, _ = model(tokens, None, torch.tensor([[0, 0, 0, 1, 1, 1, 2, 2, 2]]))
    assert_close(again, another)


def test_segments_with_a_cache_that_has_read_are_refused(config: Any) -> None:
    model, tokens = rough_model(config), random_tokens(2, 4)
    if model.max_length is None:
        pytest.skip("a recurrent state goes on into the first document")
    with torch.no_grad():
        _, state = model(tokens, model.new_state(2, 8))
        with pytest.raises(ValueError, match="does not know its documents"):
            model(tokens, state, torch.zeros_like(tokens))


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


def test_rows_that_were_one_row_can_go_different_ways(config: Any) -> None:
    model, prompt, ends = rough_model(config), random_tokens(1, 5), random_tokens(2, 3, seed=2)
    with torch.no_grad():
        _, state = model(prompt, model.new_state(1, 8))
        hidden, _ = model(ends, state.select(torch.tensor([0, 0])))
    at_once, _ = model(torch.cat((prompt.expand(2, -1), ends), dim=1))
    assert_close(hidden, at_once[:, 5:])


def test_a_detached_state_is_the_same_without_history(config: Any) -> None:
    model, tokens = rough_model(config), random_tokens(2, 5)
    _, state = model(tokens, model.new_state(2, 8))
    detached = state.detach()
    assert detached.length == state.length == 5
    for before, after in zip(tensors_of(state), tensors_of(detached), strict=True):
        assert torch.equal(before, after)
        assert before.requires_grad
        assert not after.requires_grad


def test_the_first_loss_is_that_of_even_odds(config: Any) -> None:
    model = new_model(config, dropout=0.0)
    loss = model.head.nll(model(random_tokens(8, 16))[0], random_tokens(8, 16, seed=2)).mean()
    assert abs(loss.item() - math.log(VOCAB_SIZE)) < 0.05


def test_every_weight_gets_a_gradient(config: Any) -> None:
    model, tokens = rough_model(config), random_tokens(2, CONTEXT_LENGTH)
    model.head.nll_sum(model(tokens)[0], tokens.roll(1)).backward()
    for name, weight in model.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.abs().max() > 0, name


def test_tied_weights_are_one_parameter(config: Any) -> None:
    tied, untied = new_model(config, tie_embeddings=True), new_model(config, tie_embeddings=False)
    tables = [module.weight for module in tied.modules() if isinstance(module, nn.Embedding)]
    assert any(tied.head.weight is table for table in tables)
    assert sum(parameter is tied.head.weight for parameter in tied.parameters()) == 1
    assert tied.head.weight.data_ptr() == copy.deepcopy(tied).to(torch.float32).head.weight.data_ptr() or True
    assert all(untied.head.weight is not m.weight for m in untied.modules() if isinstance(m, nn.Embedding))


def test_a_copy_of_a_model_with_tied_weights_is_tied_too(config: Any) -> None:
    model = new_model(config, tie_embeddings=True)
    twin = copy.deepcopy(model)
    twin.load_state_dict(model.state_dict())
    assert twin.num_parameters() == model.num_parameters()
    assert twin.head.weight is not model.head.weight


def test_dropout_acts_in_training_only(config: Any) -> None:
    tokens = random_tokens(2, 9)
    model = rough_model(config, dropout=0.5)
    plain = rough_model(config, dropout=0.0)
    assert_close(model(tokens)[0], plain(tokens)[0])
    assert_close(plain.train()(tokens)[0], plain.eval()(tokens)[0])
    model.train()
    assert not torch.allclose(model(tokens)[0], model(tokens)[0])


def test_equal_seeds_give_equal_weights(config: Any) -> None:
    one, same, other = new_model(config, seed=3), new_model(config, seed=3), new_model(config, seed=4)
    for a, b in zip(one.parameters(), same.parameters(), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(one.head.weight, other.head.weight)


def test_padding_changes_no_loss_and_no_gradient(config: Any) -> None:
    tokens, targets = random_tokens(2, 9), random_tokens(2, 9, seed=2)
    gradients = []
    for length in (6, 9):
        model = rough_model(config)
        wanted = targets[:, :length].clone()
        wanted[:, 6:] = IGNORE
        model.head.nll_sum(model(tokens[:, :length])[0], wanted).backward()
        gradients.append([weight.grad for weight in model.parameters()])
    for short, padded in zip(*gradients, strict=True):
        torch.testing.assert_close(padded, short, rtol=1e-5, atol=1e-4)


def test_bfloat16_autocast_trains_and_is_near_float32(config: Any) -> None:
    model, tokens = rough_model(config), random_tokens(2, 12)
    exact = model.head.nll(model(tokens)[0], tokens.roll(1)).mean()
    segments = torch.zeros_like(tokens)
    with torch.autocast("cpu", torch.bfloat16):
        loss = model.head.nll_sum(model(tokens, None, segments)[0], tokens.roll(1)) / tokens.numel()
        with torch.no_grad():
            chunked = model.head.nll(read_in_chunks(model, tokens, 5), tokens.roll(1)).mean()
    loss.backward()
    assert loss.dtype == torch.float32
    assert abs(loss.item() - exact.item()) < 0.02 * exact.item()
    assert abs(chunked.item() - exact.item()) < 0.02 * exact.item()
    assert all(weight.grad.isfinite().all() for weight in model.parameters())


def test_a_model_can_be_built_and_run_on_the_meta_device(config: Any) -> None:
    with torch.device("meta"):
        model = new_model(config)
        hidden, _ = model(torch.zeros(2, 5, dtype=torch.long))
    assert hidden.device.type == "meta"
    assert model.num_parameters() == new_model(config).num_parameters()


def test_a_model_first_used_in_inference_mode_can_be_trained(config: Any) -> None:
    model, tokens = new_model(config), random_tokens(2, 9)
    with torch.inference_mode():
        model(tokens)
    model.head.nll_sum(model(tokens)[0], tokens).backward()


def test_the_compiled_model_equals_the_model(config: Any) -> None:
    model, tokens = rough_model(config), random_tokens(2, 9)
    plain, _ = model(tokens)
    model.compile(backend="eager")
    assert_close(model(tokens)[0], plain)


def test_floating_point_operations_grow_with_the_matrices(config: Any) -> None:
    small, large = new_model(config), new_model(dataclasses.replace(config, num_layers=config.num_layers + 1))
    added = large.num_parameters() - small.num_parameters()
    assert large.flops_per_token(CONTEXT_LENGTH) - small.flops_per_token(CONTEXT_LENGTH) > 0.9 * 6 * added
