"""What every model promises, over every option and the variants of each; `test_state.py` has what it remembers.

Encoder-decoders are here as the decoders they become once they have read a source (`setups.Started`).
"""

import copy
import dataclasses
import math
from typing import Any

import pytest
import torch
from torch import nn

from lmexp.models import documents
from lmexp.models.adapters import recompute
from lmexp.models.heads import IGNORE
from tests.models.setups import (
    CONFIGS,
    CONTEXT_LENGTH,
    DECODERS,
    ENCODER_DECODERS,
    OURS,
    VOCAB_SIZE,
    assert_close,
    new_model,
    random_tokens,
    read_in_chunks,
    rough_model,
)

READ_FORWARD = DECODERS | ENCODER_DECODERS
EVERY_MODEL = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
EVERY_MODEL_THAT_READS_FORWARD = pytest.mark.parametrize("config", READ_FORWARD.values(), ids=READ_FORWARD.keys())


@EVERY_MODEL
def test_every_option_of_ours_is_here(config: Any) -> None:
    assert config.name in OURS
    assert set(OURS) == {config.name for config in CONFIGS.values()}


@EVERY_MODEL
def test_hidden_states_have_the_width_of_the_head(config: Any) -> None:
    model = new_model(config)
    hidden, _ = model(random_tokens(3, 7))
    assert hidden.shape == (3, 7, model.head.weight.shape[1])
    assert model.head.logits(hidden).shape == (3, 7, VOCAB_SIZE)
    assert model.head.nll(hidden, random_tokens(3, 7)).shape == (3, 7)


@EVERY_MODEL
def test_one_row_of_one_token_is_enough(config: Any) -> None:
    model = new_model(config)
    hidden, _ = model(random_tokens(1, 1))
    model.head.nll_sum(hidden, random_tokens(1, 1)).backward()
    assert hidden.shape[:2] == (1, 1)


@EVERY_MODEL
def test_rows_do_not_see_each_other(config: Any) -> None:
    model, tokens = rough_model(config), random_tokens(3, 9)
    together, _ = model(tokens)
    alone = [model(row[None])[0] for row in tokens]
    assert_close(together, torch.cat(alone))


@EVERY_MODEL_THAT_READS_FORWARD
def test_no_token_sees_a_later_one(config: Any) -> None:
    model, tokens = rough_model(config), random_tokens(2, 9)
    before, _ = model(tokens)
    for t in range(9):
        changed = tokens.clone()
        changed[:, t] = (changed[:, t] + 1) % VOCAB_SIZE
        after, _ = model(changed)
        assert torch.equal(after[:, :t], before[:, :t])
        assert (after[:, t:] - before[:, t:]).abs().amax(dim=(0, 2)).min() > 1e-4  # and every later one sees it


@EVERY_MODEL_THAT_READS_FORWARD
def test_the_gradient_of_a_hidden_state_reaches_earlier_tokens_only(config: Any) -> None:
    model = rough_model(config)
    embedded = []
    tables = [module for module in model.modules() if isinstance(module, nn.Embedding)]
    table = next(module for module in tables if module.num_embeddings == VOCAB_SIZE)
    table.register_forward_hook(lambda module, inputs, output: embedded.append(output) or output.retain_grad())
    hidden, _ = model(random_tokens(2, 9))
    hidden[:, 4].square().sum().backward()
    size = embedded[-1].grad.abs().amax(dim=(0, 2))
    assert size[:5].min() > 0
    assert size[5:].max() == 0


@EVERY_MODEL
@pytest.mark.parametrize("apart_from", [1, 512])
def test_packed_documents_are_read_as_if_alone(config: Any, apart_from: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "APART_FROM", apart_from)
    model, tokens = rough_model(config), random_tokens(3, 12)
    cuts = [5, 1, 11]  # a border of its own in each row, down to a document of one token
    segments = torch.stack([(torch.arange(12) >= cut) + row for row, cut in enumerate(cuts)])
    packed, _ = model(tokens, None, segments)
    for row, cut in enumerate(cuts):
        for part in (slice(0, cut), slice(cut, 12)):
            alone, _ = model(tokens[row : row + 1, part])
            assert_close(packed[row : row + 1, part], alone)


@EVERY_MODEL
def test_one_document_a_row_equals_no_segments(config: Any) -> None:
    model, tokens = rough_model(config), random_tokens(2, 9)
    with_segments, _ = model(tokens, None, torch.full_like(tokens, 7))
    assert_close(with_segments, model(tokens)[0])


@EVERY_MODEL
def test_a_document_number_that_comes_back_is_another_document(config: Any) -> None:
    model, tokens = rough_model(config), random_tokens(1, 9)
    again, _ = model(tokens, None, torch.tensor([[0, 0, 0, 1, 1, 1, 0, 0, 0]]))
    another, _ = model(tokens, None, torch.tensor([[0, 0, 0, 1, 1, 1, 2, 2, 2]]))
    assert_close(again, another)


@EVERY_MODEL
def test_the_first_loss_is_that_of_even_odds(config: Any) -> None:
    model = new_model(config, dropout=0.0)
    loss = model.head.nll(model(random_tokens(8, 16))[0], random_tokens(8, 16, seed=2)).mean()
    assert abs(loss.item() - math.log(VOCAB_SIZE)) < 0.05


@EVERY_MODEL
def test_every_weight_gets_a_gradient(config: Any) -> None:
    model, tokens = rough_model(config), random_tokens(2, CONTEXT_LENGTH)
    model.head.nll_sum(model(tokens)[0], tokens.roll(1)).backward()
    for name, weight in model.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.abs().max() > 0, name


@EVERY_MODEL
def test_tied_weights_are_one_parameter(config: Any) -> None:
    tied, untied = new_model(config, tie_embeddings=True), new_model(config, tie_embeddings=False)
    tables = [module.weight for module in tied.modules() if isinstance(module, nn.Embedding)]
    assert any(tied.head.weight is table for table in tables)
    assert sum(parameter is tied.head.weight for parameter in tied.parameters()) == 1
    assert all(untied.head.weight is not m.weight for m in untied.modules() if isinstance(m, nn.Embedding))


@EVERY_MODEL
def test_a_copy_of_a_model_with_tied_weights_is_tied_too(config: Any) -> None:
    model = new_model(config, tie_embeddings=True)
    twin = copy.deepcopy(model)
    twin.load_state_dict(model.state_dict())
    assert twin.num_parameters() == model.num_parameters()
    assert twin.head.weight is not model.head.weight


@EVERY_MODEL
def test_dropout_acts_in_training_only(config: Any) -> None:
    tokens = random_tokens(2, 9)
    model = rough_model(config, dropout=0.5)
    plain = rough_model(config, dropout=0.0)
    assert_close(model(tokens)[0], plain(tokens)[0])
    assert_close(plain.train()(tokens)[0], plain.eval()(tokens)[0])
    model.train()
    assert not torch.allclose(model(tokens)[0], model(tokens)[0])


@EVERY_MODEL
def test_recomputed_activations_change_no_loss_and_no_gradient(config: Any) -> None:
    results = []
    for again in (False, True):
        model, tokens = rough_model(config, dropout=0.3).train(), random_tokens(2, 9)
        if again:
            recompute(model)
        torch.manual_seed(5)
        loss = model.head.nll_sum(model(tokens)[0], tokens.roll(1))
        loss.backward()
        results.append([loss, *(weight.grad for weight in model.parameters())])
    for kept, computed in zip(*results, strict=True):
        assert torch.equal(kept, computed)


@EVERY_MODEL
def test_equal_seeds_give_equal_weights(config: Any) -> None:
    one, same, other = new_model(config, seed=3), new_model(config, seed=3), new_model(config, seed=4)
    for a, b in zip(one.parameters(), same.parameters(), strict=True):
        assert torch.equal(a, b)
    assert any(not torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


@EVERY_MODEL_THAT_READS_FORWARD
def test_padding_changes_no_loss_and_no_gradient(config: Any) -> None:
    tokens, targets = random_tokens(2, 9), random_tokens(2, 9, seed=2)
    gradients = []
    for length in (6, 9):
        model = rough_model(config)
        wanted = targets[:, :length].clone()
        wanted[:, 6:] = IGNORE
        (model.head.nll_sum(model(tokens[:, :length])[0], wanted) / 12).backward()
        gradients.append([weight.grad for weight in model.parameters()])
    for short, padded in zip(*gradients, strict=True):
        assert_close(padded, short)


@EVERY_MODEL
def test_bfloat16_autocast_trains_and_is_near_float32(config: Any) -> None:
    model, tokens = rough_model(config), random_tokens(2, 12)
    exact = model.head.nll(model(tokens)[0], tokens.roll(1)).mean()
    with torch.autocast("cpu", torch.bfloat16):
        loss = model.head.nll_sum(model(tokens, None, torch.zeros_like(tokens))[0], tokens.roll(1)) / tokens.numel()
    loss.backward()
    assert loss.dtype == torch.float32
    assert abs(loss.item() - exact.item()) < 0.02 * exact.item()
    assert all(weight.grad.isfinite().all() for weight in model.parameters())


@EVERY_MODEL_THAT_READS_FORWARD
def test_bfloat16_autocast_reads_in_chunks_too(config: Any) -> None:
    model, tokens = rough_model(config), random_tokens(2, 12)
    exact = model.head.nll(model(tokens)[0], tokens.roll(1)).mean()
    with torch.autocast("cpu", torch.bfloat16):
        chunked = model.head.nll(read_in_chunks(model, tokens, 5), tokens.roll(1)).mean()
    assert abs(chunked.item() - exact.item()) < 0.02 * exact.item()


@EVERY_MODEL
def test_a_model_can_be_built_and_run_on_the_meta_device(config: Any) -> None:
    with torch.device("meta"):
        model = new_model(config)
        hidden, _ = model(torch.zeros(2, 5, dtype=torch.long))
    assert hidden.device.type == "meta"
    assert model.num_parameters() == new_model(config).num_parameters()


@EVERY_MODEL
def test_a_model_first_used_in_inference_mode_can_be_trained(config: Any) -> None:
    model, tokens = new_model(config), random_tokens(2, 9)
    with torch.inference_mode():
        model(tokens)
    model.head.nll_sum(model(tokens)[0], tokens).backward()
    assert all(weight.grad is not None for weight in model.parameters())


@EVERY_MODEL
def test_floating_point_operations_grow_with_the_matrices(config: Any) -> None:
    small, large = new_model(config), new_model(dataclasses.replace(config, num_layers=config.num_layers + 1))
    added = large.num_parameters() - small.num_parameters()
    assert large.flops_per_token(CONTEXT_LENGTH) - small.flops_per_token(CONTEXT_LENGTH) > 0.9 * 6 * added
