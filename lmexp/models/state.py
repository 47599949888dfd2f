"""What every language model promises, and what it remembers between two calls.

Shapes: B rows, T tokens, C hidden size, V vocabulary, L layers, H heads, D head size.
"""

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from lmexp.models.heads import Head


class State(Protocol):
    """Memory of a model: what was read so far."""

    length: int
    """Tokens read so far."""

    def select(self, rows: Tensor) -> "State":
        """Return the state of these rows; a row may come more than once (beams)."""

    def detach(self) -> "State":
        """Return the state without its gradient history."""


class LanguageModel(nn.Module):
    """The contract of a model.

    `model(tokens_BT, state, segments_BT)` returns (hidden_BTC, state). Without a state it reads from the start.
    The state given may be written into, so go on from the one returned; `select` makes a copy.
    `segments_BT` numbers the document of each token; nothing is carried over where the number changes. A state goes on
    with the last document of each row, so rows of different length are read with padding before them that is a document
    of its own.
    """

    head: Head
    reads_both_ways: bool = False
    """Whether a token sees what comes after it."""
    max_length: int | None = None
    """Most tokens that one state can hold; None for any number."""
    first_target_id: int | None = None
    """The token that a published encoder-decoder begins every target with; None for the one that ends documents."""
    penalty: Tensor | None = None
    """What the last forward pass adds to the mean loss in training; None for nothing."""

    def new_state(self, batch_size: int, max_length: int) -> State:
        """Return an empty state on the model's device."""
        raise NotImplementedError

    def stepper(self) -> "Step | None":
        """Return what reads one token a row as `forward` does in inference, but sooner; None where nothing does.

        The calls of modules take as long as their arithmetic when a batch is small, so a model may go on with its
        weights alone. They must stay as they are while it is used.
        """
        return None

    def flops_per_token(self, context_length: int) -> float:
        """Return the floating-point operations of one training step (forward and backward) for each token.

        Formula: 6 for each weight that a token is multiplied with, and 12 * layers * width * T for attention.
        Source: Kaplan et al. 2020, section 2.1; PaLM (Chowdhery et al. 2022), appendix B.
        """
        raise NotImplementedError

    def num_parameters(self) -> int:
        """Return the number of weights, tied ones once."""
        return sum(parameter.numel() for parameter in self.parameters())


class SourceModel(LanguageModel):
    """The contract of an encoder-decoder: a language model for each source, started from the state `encode` returns."""

    def encode(self, source_BS: Tensor, mask_BS: Tensor | None = None, *, max_length: int = 0) -> State:
        """Return the state that a source has been read into, before the first token of the target.

        `mask_BS` is True where a source token is real; padding may be anywhere and changes nothing. `max_length` is
        the room for tokens that are to be generated; with 0, for training, the target is read at once.
        """
        raise NotImplementedError

    def new_state(self, batch_size: int, max_length: int) -> State:
        """Raise, for there is no state without a source.

        Raises:
            ValueError: always.
        """
        raise ValueError(NEEDS_SOURCE)


NEEDS_SOURCE = "an encoder-decoder reads a source first: state = model.encode(source), then model(tokens, state)"


Step = Callable[[Tensor, Any], tuple[Tensor, Any]]
"""Takes tokens_B1 and a state that has read tokens; returns hidden_B1C and the state."""


LEAVES = {nn.ModuleList, nn.Linear, nn.LayerNorm, nn.RMSNorm, nn.Embedding, nn.Identity}


def is_plain(model: nn.Module, own: set[type[nn.Module]]) -> bool:
    """Return whether a model is of these modules and torch's own only: no adapter, hook or autocast changes them."""
    modules = list(model.modules())
    has_hooks = any(module._forward_hooks or module._forward_pre_hooks for module in modules)
    is_cast = torch.is_autocast_enabled(next(model.parameters()).device.type)
    return {type(module) for module in modules} <= own | LEAVES and not has_hooks and not is_cast


def weights_of(*modules: nn.Module) -> list[tuple[Tensor, Tensor | None]]:
    """Return the weight and the bias of each module."""
    return [(module.get_parameter("weight"), module._parameters.get("bias")) for module in modules]


def matrix_flops(model: LanguageModel) -> float:
    """Return 6 operations for each weight of a matrix that tokens are multiplied with (a lookup is none).

    A frozen weight takes 4, for it gets no gradient.
    """
    lookups = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    weights: list[Tensor] = [p for p in model.parameters() if p.ndim >= 2 and id(p) not in lookups]
    if id(model.head.weight) in lookups:
        weights.append(model.head.weight)
    return sum((6.0 if weight.requires_grad else 4.0) * weight.numel() for weight in weights)


class LSTMState:
    """Hidden and cell state of every layer.

    Shape: (L, B, C) each.
    """

    def __init__(self, hidden_LBC: Tensor, cell_LBC: Tensor, length: int = 0) -> None:
        self.hidden_LBC = hidden_LBC
        self.cell_LBC = cell_LBC
        self.length = length

    def select(self, rows: Tensor) -> "LSTMState":
        return LSTMState(self.hidden_LBC[:, rows], self.cell_LBC[:, rows], self.length)

    def detach(self) -> "LSTMState":
        return LSTMState(self.hidden_LBC.detach(), self.cell_LBC.detach(), self.length)


class KeyValueCache:
    """Keys and values of every layer, in memory that is set aside once.

    `starts_B` is the column where the document begins that each row goes on with; None where that is the first.
    Shape: (L, B, H, max_length, D) each.
    """

    def __init__(self, keys: Tensor, values: Tensor, length: int = 0, starts_B: Tensor | None = None) -> None:
        self.keys = keys
        self.values = values
        self.length = length
        self.starts_B = starts_B
        self._num_layers, self._room = keys.shape[0], keys.shape[3]  # a step of generation is short: looked up once

    @classmethod
    def empty(cls, like: Tensor, *, layers: int, rows: int, heads: int, length: int, size: int) -> "KeyValueCache":
        """Return a cache of zeros on the device and in the type of a weight."""
        shape = (layers, rows, heads, length, size)
        return cls(
            torch.zeros(shape, device=like.device, dtype=like.dtype),
            torch.zeros(shape, device=like.device, dtype=like.dtype),
        )

    def extend(self, layer: int, keys_BHTD: Tensor, values_BHTD: Tensor) -> tuple[Tensor, Tensor]:
        """Write the keys and values of new tokens and return those of all tokens so far.

        `length` moves on once, when the last layer has written.

        Raises:
            ValueError: there is no room for them.
        """
        new = keys_BHTD.shape[2]
        end = self.length + new
        if end > self._room:
            raise ValueError(f"a state for {self._room} tokens cannot hold {end}")
        keys, values = self.keys[layer], self.values[layer]
        keys.narrow(2, self.length, new).copy_(keys_BHTD)
        values.narrow(2, self.length, new).copy_(values_BHTD)
        if layer + 1 == self._num_layers:
            self.length = end
        return keys.narrow(2, 0, end), values.narrow(2, 0, end)

    def select(self, rows: Tensor) -> "KeyValueCache":
        starts_B = None if self.starts_B is None else self.starts_B[rows]
        return KeyValueCache(self._rows(self.keys, rows), self._rows(self.values, rows), self.length, starts_B)

    def detach(self) -> "KeyValueCache":
        return KeyValueCache(self.keys.detach(), self.values.detach(), self.length, self.starts_B)

    def _rows(self, whole: Tensor, rows: Tensor) -> Tensor:
        """Return memory for these rows; only what was written is copied."""
        layers, _, heads, room, size = whole.shape
        new = whole.new_zeros(layers, len(rows), heads, room, size)
        new[:, :, :, : self.length] = whole[:, :, :, : self.length].index_select(1, rows)
        return new
