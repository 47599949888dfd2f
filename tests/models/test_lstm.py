import dataclasses

import pytest
import torch
from torch import Tensor, nn

from lmexp.config.model import LSTMConfig
from lmexp.models.lstm import LSTM
from tests.models.setups import VOCAB_SIZE, assert_close, new_model, random_tokens, rough_model

CONFIG = LSTMConfig(num_layers=3, hidden_size=8)


def cell_by_cell(model: LSTM, tokens_BT: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return outputs and last states of Hochreiter and Schmidhuber's cell with forget gates, one step at a time."""
    x_BTC = model.embedding.weight[tokens_BT]
    hiddens, cells = [], []
    for layer in range(model.config.num_layers):
        to_gates, from_hidden, bias, bias2 = (
            getattr(model.layers[layer], f"{name}_l0") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        hidden = cell = torch.zeros(len(tokens_BT), model.config.hidden_size)
        outputs = []
        for t in range(tokens_BT.shape[1]):
            gates = x_BTC[:, t] @ to_gates.T + hidden @ from_hidden.T + bias + bias2
            write, forget, content, read = gates.chunk(4, dim=1)
            cell = cell * torch.sigmoid(forget) + torch.sigmoid(write) * torch.tanh(content)
            hidden = torch.sigmoid(read) * torch.tanh(cell)
            outputs.append(hidden)
        x_BTC = torch.stack(outputs, dim=1)
        hiddens.append(hidden)
        cells.append(cell)
    return x_BTC, torch.stack(hiddens), torch.stack(cells)


def test_the_lstm_equals_its_cells_step_by_step() -> None:
    model, tokens = rough_model(CONFIG), random_tokens(3, 11)
    hidden, state = model(tokens)
    expected, last_hidden, last_cell = cell_by_cell(model, tokens)
    assert_close(hidden, expected)
    assert_close(state.hidden_LBC, last_hidden)
    assert_close(state.cell_LBC, last_cell)


def test_the_layers_equal_torchs_stacked_lstm() -> None:
    model, tokens = rough_model(CONFIG), random_tokens(3, 11)
    stacked = nn.LSTM(8, 8, num_layers=3, batch_first=True)
    weights = {f"{name[:-1]}{layer}": w for layer in range(3) for name, w in model.layers[layer].named_parameters()}
    stacked.load_state_dict(weights)
    expected, (last_hidden, last_cell) = stacked(model.embedding(tokens))
    hidden, state = model(tokens)
    assert_close(hidden, expected)
    assert_close(state.hidden_LBC, last_hidden)
    assert_close(state.cell_LBC, last_cell)


def test_the_state_after_packed_documents_is_that_of_the_last_one() -> None:
    model, tokens = rough_model(CONFIG), random_tokens(2, 11)
    segments = torch.tensor([[0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 2], [3, 4, 4, 4, 4, 4, 4, 4, 4, 4, 5]])
    _, state = model(tokens, None, segments)
    for row, start in enumerate((7, 10)):
        _, alone = model(tokens[row : row + 1, start:])
        assert_close(state.hidden_LBC[:, row], alone.hidden_LBC[:, 0])
        assert_close(state.cell_LBC[:, row], alone.cell_LBC[:, 0])
    assert state.length == 11


def test_packed_documents_read_in_chunks_equal_those_read_at_once() -> None:
    model, tokens = rough_model(CONFIG), random_tokens(2, 12)
    segments = torch.tensor([[0] * 5 + [1] * 7, [2] * 9 + [3] * 3])
    at_once, last = model(tokens, None, segments)
    state, parts = None, []
    for chunk in (slice(0, 4), slice(4, 7), slice(7, 12)):  # no document begins where a chunk does
        hidden, state = model(tokens[:, chunk], state, segments[:, chunk])
        parts.append(hidden)
    assert_close(torch.cat(parts, dim=1), at_once)
    assert_close(state.cell_LBC, last.cell_LBC)


def test_gradients_of_packed_documents_are_those_of_documents_alone() -> None:
    tokens = random_tokens(1, 10)
    packed, alone = rough_model(CONFIG), rough_model(CONFIG)
    packed(tokens, None, torch.tensor([[0] * 4 + [1] * 6]))[0].square().mean().backward()
    parts = [alone(tokens[:, :4])[0], alone(tokens[:, 4:])[0]]
    torch.cat(parts, dim=1).square().mean().backward()
    for one, other in zip(packed.parameters(), alone.parameters(), strict=True):
        if one.grad is not None:  # the output bias has none here
            assert_close(one.grad, other.grad)


def test_gradients_do_not_reach_behind_a_detached_state() -> None:
    model = rough_model(CONFIG)
    _, state = model(random_tokens(2, 5))
    assert state.cell_LBC.requires_grad
    start = state.detach()
    hidden, _ = model(random_tokens(2, 5), start)
    hidden.sum().backward()
    assert start.cell_LBC.grad is None


def test_forget_gates_begin_open() -> None:
    model = new_model(CONFIG)
    for layer in range(3):
        bias = model.layers[layer].bias_ih_l0
        assert (bias[8:16] == 1).all()
        assert bias[:8].abs().max() < 1 / 8**0.5
        assert bias[16:].abs().max() < 1 / 8**0.5


def test_embedding_and_output_rows_begin_between_minus_and_plus_a_tenth() -> None:
    model = new_model(LSTMConfig(num_layers=1, hidden_size=100, tie_embeddings=False))
    for weight in (model.embedding.weight, model.head.weight):
        assert 0.099 < weight.abs().max() <= 0.1
        assert abs(weight.std().item() - 0.1 / 3**0.5) < 0.002
    assert (model.head.bias == 0).all()


def test_a_single_layer_drops_activations_without_a_warning() -> None:
    model, tokens = new_model(LSTMConfig(num_layers=1, hidden_size=8, dropout=0.5)).train(), random_tokens(1, 5)
    assert not torch.equal(model(tokens)[0], model(tokens)[0])


def test_parameters_and_operations_by_hand() -> None:
    v, c, e = VOCAB_SIZE, 8, 6
    first, second, biases = 4 * c * e + 4 * c * c, 4 * c * c + 4 * c * c, 2 * 2 * 4 * c
    tied = new_model(LSTMConfig(num_layers=2, hidden_size=c, embedding_size=e))
    assert tied.num_parameters() == v * e + first + second + biases + c * e + v
    assert tied.flops_per_token(100) == 6 * (first + second + c * e + v * e)
    untied = new_model(
        LSTMConfig(num_layers=2, hidden_size=c, embedding_size=e, tie_embeddings=False, output_bias=False)
    )
    assert untied.num_parameters() == v * e + first + second + biases + v * c
    assert untied.flops_per_token(100) == 6 * (first + second + v * c)


def training_model(**changes: object) -> LSTM:
    return rough_model(dataclasses.replace(CONFIG, **changes)).train()  # type: ignore[arg-type, return-value]


def test_variational_dropout_drops_the_same_units_at_every_step_and_others_in_every_row() -> None:
    model = training_model(variational_dropout=True, dropout=0.5, input_dropout=0.0, hidden_dropout=0.0)
    dropped_BTC = model(random_tokens(4, 9))[0] == 0
    assert 0 < dropped_BTC.float().mean() < 1
    assert (dropped_BTC == dropped_BTC[:, :1]).all()
    assert not (dropped_BTC == dropped_BTC[:1]).all()


def test_plain_dropout_drops_other_units_at_every_step() -> None:
    dropped_BTC = training_model(dropout=0.5, input_dropout=0.0, hidden_dropout=0.0)(random_tokens(4, 9))[0] == 0
    assert not (dropped_BTC == dropped_BTC[:, :1]).all()


def test_embedding_dropout_drops_whole_words_everywhere_in_a_batch() -> None:
    model = training_model(embedding_dropout=0.5)
    tokens = random_tokens(8, 30)
    embedded_BTC = model._embed(tokens)
    is_dropped_BT = (embedded_BTC == 0).all(-1)
    for word in range(VOCAB_SIZE):
        assert len(set(is_dropped_BT[tokens == word].tolist())) <= 1
    assert 0 < is_dropped_BT.float().mean() < 1
    assert_close(embedded_BTC[~is_dropped_BT], 2 * model.embedding(tokens)[~is_dropped_BT])


def test_weight_dropout_acts_on_the_recurrent_weights_alone() -> None:
    model, tokens = training_model(weight_dropout=0.5, num_layers=1), random_tokens(2, 9)
    first, again = model(tokens)[0], model(tokens)[0]
    assert torch.equal(first[:, 0], again[:, 0])  # a first step has no recurrent input
    assert not torch.allclose(first[:, 1:], again[:, 1:])
    first.sum().backward()
    gradient = model.layers[0].weight_hh_l0.grad
    assert 0.3 < (gradient == 0).float().mean() < 0.7
    assert_close(model.eval()(tokens)[0], rough_model(dataclasses.replace(CONFIG, num_layers=1))(tokens)[0])


def test_penalties_equal_their_formulas_and_are_for_training_only() -> None:
    model, tokens = training_model(activation_penalty=2.0, temporal_penalty=3.0), random_tokens(3, 7)
    hidden, _ = model(tokens)
    change = (hidden[:, 1:] - hidden[:, :-1]).square().mean()
    assert model.penalty is not None
    assert_close(model.penalty, 2 * hidden.square().mean() + 3 * change)
    model(tokens[:, :1])
    assert model.penalty.isfinite()
    model.eval()(tokens)
    assert model.penalty is None


@pytest.mark.parametrize("key", ["input_dropout", "hidden_dropout"])
def test_each_place_has_its_own_dropout(key: str) -> None:
    quiet = {"dropout": 0.0, "input_dropout": 0.0, "hidden_dropout": 0.0}
    model, tokens = training_model(**quiet | {key: 0.5}), random_tokens(2, 9)
    assert not torch.allclose(model(tokens)[0], model(tokens)[0])
    assert torch.equal(*(training_model(**quiet)(tokens)[0] for _ in range(2)))
