"""torch.compile, one variant of each option: tracing takes a second."""

import pytest
import torch
from torch import Tensor

from lmexp.models import documents
from lmexp.models.state import LanguageModel
from tests.models.setups import CONFIGS, ENCODER_DECODERS, OURS, assert_close, random_tokens, rough_model

RUN_AS_THEY_ARE = ("lstm", "lstm_attention")
"""torch.compile does not see into nn.LSTM."""


# Parts that begin behind what cannot be traced are given tensors with a history, at which torch warns itself.
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")


@pytest.mark.parametrize("name", OURS)
def test_the_compiled_model_equals_the_model(name: str) -> None:
    model, tokens = rough_model(CONFIGS[name]), random_tokens(2, 9)
    plain, _ = model(tokens)
    model.compile(backend="eager")
    assert_close(model(tokens)[0], plain)


@pytest.mark.parametrize("name", [name for name in OURS if name not in RUN_AS_THEY_ARE])
def test_the_compiled_loss_and_its_gradients_are_those_of_the_model_in_one_graph(name: str) -> None:
    model, tokens = rough_model(CONFIGS[name]), random_tokens(2, 9)
    expected = gradients(model, tokens)
    model.compile(backend="eager", fullgraph=True)
    model.head.compile(backend="eager", fullgraph=True)
    for mine, theirs in zip(gradients(model, tokens), expected, strict=True):
        assert_close(mine, theirs)


@pytest.mark.parametrize("name", sorted({*OURS} - {*RUN_AS_THEY_ARE} - {*ENCODER_DECODERS}))
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch, of itself
def test_compiled_documents_are_kept_apart_in_one_graph(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forward only: FlexAttention has no backward pass on a CPU."""
    model, tokens = rough_model(CONFIGS[name]), random_tokens(2, 9)
    segments = torch.tensor([[0, 0, 0, 0, 1, 1, 1, 2, 2], [3, 4, 4, 4, 4, 4, 4, 4, 4]])
    with torch.no_grad():
        plain, _ = model(tokens, None, segments)
        monkeypatch.setattr(documents, "APART_FROM", 1)
        monkeypatch.setattr(documents, "IN_BLOCKS_ON", "cpu")
        monkeypatch.setattr(documents, "SMALLEST_HEAD", 1)
        monkeypatch.setattr(documents, "document_mask", None)  # and so cannot be what is used
        model.compile(backend="eager", fullgraph=True)
        assert_close(model(tokens, None, segments)[0], plain)


def gradients(model: LanguageModel, tokens: Tensor) -> list[Tensor]:
    """Return the loss and the gradient of every parameter."""
    model.zero_grad()
    loss = model.head.nll_sum(model(tokens)[0], tokens)
    loss.backward()
    return [loss.detach(), *(weight.grad.clone() for weight in model.parameters() if weight.grad is not None)]
