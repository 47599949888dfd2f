from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lmexp.config.model import Attention, LSTMAttentionConfig
from lmexp.models.lstm_attention import LSTMAttention
from tests.models.setups import VOCAB_SIZE, assert_close, new_model, random_tokens, rough_model

LUONG = LSTMAttentionConfig(num_layers=2, hidden_size=8, embedding_size=6, attention=Attention.luong)
BAHDANAU = LSTMAttentionConfig(num_layers=2, hidden_size=8, embedding_size=6, attention=Attention.bahdanau)
EITHER = pytest.mark.parametrize("config", [LUONG, BAHDANAU], ids=["luong", "bahdanau"])
SOURCE, TARGET = random_tokens(1, 7, seed=5)[0], random_tokens(1, 6, seed=6)[0]


def rough(config: Any) -> LSTMAttention:
    return rough_model(config).model


def cell(lstm: nn.LSTM, name: str, x: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """Return the next states of Hochreiter and Schmidhuber's cell with forget gates."""
    to_gates, from_hidden, bias, bias2 = (
        getattr(lstm, f"{kind}_{name}") for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    write, forget, content, read = (to_gates @ x + from_hidden @ hidden + bias + bias2).chunk(4)
    cell = torch.sigmoid(forget) * cell + torch.sigmoid(write) * torch.tanh(content)
    return torch.sigmoid(read) * torch.tanh(cell), cell


def annotations(model: LSTMAttention) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
    """Return what the encoder says of each source token, and the last states of its layers, a token at a time.

    Source: Bahdanau et al. 2015, section 3.2: the states of both directions side by side.
    """
    inputs, lasts = list(model.embedding.weight[SOURCE]), []
    for layer in range(2):
        sides, last = [], []
        for suffix, order in (("", range(7)), ("_reverse", range(6, -1, -1))):
            hidden, memory, outputs = torch.zeros(4), torch.zeros(4), [torch.zeros(0)] * 7
            for t in order:
                hidden, memory = cell(model.encoder, f"l{layer}{suffix}", inputs[t], hidden, memory)
                outputs[t] = hidden
            sides.append(outputs)
            last.append((hidden, memory))
        inputs = [torch.cat(both) for both in zip(*sides, strict=True)]
        lasts.append((torch.cat([last[0][0], last[1][0]]), torch.cat([last[0][1], last[1][1]])))
    return torch.stack(inputs), lasts


def decoder_step(model: LSTMAttention, x: Tensor, states: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Return the output of the top layer; the states are moved on."""
    for layer in range(2):
        states[layer] = cell(model.decoder, f"l{layer}", x, *states[layer])
        x = states[layer][0]
    return x


def luong_by_formula(model: LSTMAttention) -> Tensor:
    """Return tanh(W_c [c_t; h_t]) with a_t(s) = softmax(h_t^T W_a h_s) (Luong et al. 2015, equations 4 to 8)."""
    annotations_SC, states = annotations(model)
    outputs = []
    for token in TARGET:
        h = decoder_step(model, model.embedding.weight[token], states)
        scores = torch.stack([h @ (model.attention.key.weight @ h_s) for h_s in annotations_SC])
        context = (scores.exp() / scores.exp().sum()) @ annotations_SC
        outputs.append(torch.tanh(model.combine.weight @ torch.cat((context, h))))
    return torch.stack(outputs)


def bahdanau_by_formula(model: LSTMAttention) -> Tensor:
    """Return the outputs of s_i = f(s_(i-1), y_(i-1), c_i), a(s, h) = v^T tanh(W s + U h) (2015, equations 4 to 6)."""
    annotations_SC, states = annotations(model)
    w, u, v = model.attention.query.weight, model.attention.key.weight, model.attention.score
    outputs = []
    for token in TARGET:
        s = states[-1][0]
        scores = torch.stack([v @ torch.tanh(w @ s + u @ h_j) for h_j in annotations_SC])
        context = (scores.exp() / scores.exp().sum()) @ annotations_SC
        s = decoder_step(model, torch.cat((model.embedding.weight[token], context)), states)
        outputs.append(torch.tanh(model.combine.weight @ torch.cat((context, s))))
    return torch.stack(outputs)


def test_luongs_attention_equals_its_formula_step_by_step() -> None:
    model = rough(LUONG)
    assert_close(model(TARGET[None], model.encode(SOURCE[None]))[0][0], luong_by_formula(model))


def test_bahdanaus_attention_equals_its_formula_step_by_step() -> None:
    model = rough(BAHDANAU)
    assert_close(model(TARGET[None], model.encode(SOURCE[None]))[0][0], bahdanau_by_formula(model))


@EITHER
def test_the_encoder_equals_its_cells_step_by_step(config: Any) -> None:
    model = rough(config)
    state, (expected, lasts) = model.encode(SOURCE[None]), annotations(model)
    assert_close(state.values_BSC[0], expected)
    assert_close(state.start.hidden_LBC[:, 0], torch.stack([hidden for hidden, _ in lasts]))
    assert_close(state.start.cell_LBC[:, 0], torch.stack([cell for _, cell in lasts]))


def test_the_decoder_equals_that_of_torch_where_nothing_is_attended_to() -> None:
    model = rough(LUONG)
    with torch.no_grad():
        model.combine.weight[:, :8].zero_()  # the context counts nothing
    state = model.encode(SOURCE[None])
    expected, _ = model.decoder(model.embedding(TARGET[None]), (state.start.hidden_LBC, state.start.cell_LBC))
    assert_close(model(TARGET[None], state)[0], torch.tanh(model.combine(torch.cat((0 * expected, expected), dim=-1))))


@EITHER
def test_each_document_of_a_row_starts_from_the_source(config: Any) -> None:
    model, tokens = rough(config), random_tokens(2, 8)
    source = random_tokens(2, 5, seed=2)
    segments = torch.tensor([[0, 0, 0, 1, 1, 1, 1, 1], [0, 1, 1, 1, 1, 1, 2, 2]])
    packed, state = model(tokens, model.encode(source), segments)
    for row, start in enumerate((3, 6)):
        alone, last = model(tokens[row : row + 1, start:], model.encode(source[row : row + 1]))
        assert_close(packed[row, start:], alone[0])
        assert_close(state.carried.cell_LBC[:, row], last.carried.cell_LBC[:, 0])


@EITHER
def test_documents_of_selected_rows_start_from_the_sources_of_those_rows(config: Any) -> None:
    model, tokens = rough(config), random_tokens(2, 6)
    source, segments, swapped = (
        random_tokens(2, 5, seed=2),
        torch.tensor([[0, 0, 1, 1, 1, 1]] * 2),
        torch.tensor([1, 0]),
    )
    expected, _ = model(tokens, model.encode(source[swapped]), segments)
    assert_close(model(tokens, model.encode(source).select(swapped), segments)[0], expected)


def test_only_padding_has_weight_0() -> None:
    model = rough(BAHDANAU)
    mask = torch.tensor([[True, True, False, True]])
    state = model.encode(SOURCE[None, :4], mask)
    state.values_BSC = torch.eye(4)[None]  # the context is then the weights themselves
    weights = model.attention(torch.randn(1, 3, 8), state)
    assert_close(weights.sum(-1), torch.ones(1, 3))
    assert (weights[..., :3] > 0).all()
    assert (weights[..., 3] == 0).all()  # real tokens come first in the state


def test_forget_gates_begin_open() -> None:
    model = new_model(LUONG).model
    for lstm in (model.encoder, model.decoder):
        biases = [bias for name, bias in lstm.named_parameters() if name.startswith("bias_ih")]
        size = lstm.hidden_size
        assert all((bias[size : 2 * size] == 1).all() and bias[:size].abs().max() < 1 for bias in biases)


def test_a_single_layer_drops_activations_without_a_warning() -> None:
    model = new_model(LSTMAttentionConfig(num_layers=1, hidden_size=8, dropout=0.5)).model.train()
    one, other = (model(TARGET[None], model.encode(SOURCE[None]))[0] for _ in range(2))
    assert not torch.equal(one, other)


def test_an_odd_width_is_refused_by_its_config() -> None:
    assert dict(LSTMAttentionConfig(hidden_size=7).check()) == {
        "hidden_size": "must be even: each direction of the encoder has half of it"
    }


def test_parameters_and_operations_by_hand() -> None:
    v, c, e = VOCAB_SIZE, 8, 6
    first, second = 2 * (4 * 4 * e + 4 * 4 * 4), 2 * (4 * 4 * c + 4 * 4 * 4)  # two directions, half as wide
    decoder, biases = 4 * c * e + 3 * 4 * c * c, 2 * 2 * 2 * 4 * 4 + 2 * 2 * 4 * c
    luong = first + second + decoder + c * c + 2 * c * e
    model = new_model(LUONG)
    assert model.num_parameters() == v * e + luong + biases + v
    assert model.flops_per_token(100) == 6 * (luong + v * e) + 12 * c * 100
    model = new_model(BAHDANAU)
    bahdanau = luong + 4 * c * c + c * c
    assert model.num_parameters() == v * e + bahdanau + biases + v + c
    assert model.flops_per_token(100) == 6 * (bahdanau + v * e) + 12 * c * 100
