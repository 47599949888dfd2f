import torch
from torch import Tensor

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
            getattr(model.lstm, f"{name}_l{layer}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
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
        bias = getattr(model.lstm, f"bias_ih_l{layer}")
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
