"""Texts that a model reads together, each a row of one state.

Rows of different length have padding before them that is a document of its own. When a model's window is full, a row
goes on from the last half of its own tokens, so the others have no say in what it has read. Shapes: B rows, T tokens,
V vocabulary.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lmexp.generation.sampling import penalise
from lmexp.models.state import LanguageModel, State


class Rows:
    """What each row has read, and the state in which the model goes on with all of them.

    A state that is given has read something else before (the source of a translation): it cannot be made anew, so
    `max_tokens` is then at most what fits.
    """

    def __init__(
        self, model: LanguageModel, ids: Sequence[Sequence[int]], *, max_tokens: int, state: State | None = None
    ) -> None:
        self.model = model
        self.ids = [list(row) for row in ids]
        self.max_tokens = max_tokens
        if state is not None and model.max_length is not None:
            self.max_tokens = min(max_tokens, model.max_length + 1 - max(map(len, ids)))
        self._state, self._is_given = state, state is not None
        self._read_one = model.stepper() or model.forward
        self._columns = self._room = 0  # tokens in the state, padding included, and how many fit
        self._unread_B1: Tensor | None = None
        self._starts = [0] * len(ids)
        self._device = next(model.parameters()).device
        self._seen_BV: NDArray[np.bool_] | None = None

    @torch.inference_mode()
    def scores(self) -> NDArray[np.floating]:
        """Return the scores of each row's next token.

        Shape: (B, V).
        """
        if self._unread_B1 is None or (self._columns == self._room and not self._is_given):
            hidden_BTC, self._state = self._read_windows()
        else:
            hidden_BTC, self._state = self._read_one(self._unread_B1, self._state)
            self._columns += 1
        return self.model.head.logits(hidden_BTC[:, -1]).float().cpu().numpy()

    def penalised(self, scores_BV: NDArray[np.floating], penalty: float) -> NDArray[np.floating]:
        """Return the scores, lower for the tokens that a row has."""
        if penalty == 1:
            return scores_BV
        if self._seen_BV is None:
            self._seen_BV = np.zeros(scores_BV.shape, dtype=bool)
            for seen_V, ids in zip(self._seen_BV, self.ids, strict=True):
                seen_V[ids] = True
        return penalise(scores_BV, self._seen_BV, penalty)

    def append(self, tokens_B: NDArray[np.intp]) -> None:
        """Go on with one more token in each row."""
        for ids, token in zip(self.ids, tokens_B.tolist(), strict=True):
            ids.append(token)
        if self._seen_BV is not None:
            self._seen_BV[np.arange(len(tokens_B)), tokens_B] = True
        self._unread_B1 = torch.from_numpy(tokens_B).to(self._device)[:, None]

    @torch.inference_mode()
    def select(self, rows: Sequence[int]) -> None:
        """Go on with these rows; a row may come more than once. Comes before `append`."""
        assert self._state is not None
        if list(rows) == list(range(len(self.ids))):
            return
        self._state = self._state.select(torch.tensor(rows, device=self._device))
        self.ids = [self.ids[row].copy() for row in rows]
        self._starts = [self._starts[row] for row in rows]
        if self._seen_BV is not None:
            self._seen_BV = self._seen_BV[list(rows)]

    def _read_windows(self) -> tuple[Tensor, State]:
        """Read all that each row retains, into a new state unless one was given."""
        most = self.model.max_length
        for row, ids in enumerate(self.ids):
            if most is not None and len(ids) - self._starts[row] > most:
                self._starts[row] = len(ids) - max(1, most // 2)
        windows = [ids[start:] for ids, start in zip(self.ids, self._starts, strict=True)]
        self._columns = width = max(map(len, windows))
        state = self._state
        if not self._is_given:
            self._room = width + self.max_tokens if most is None else min(most, width + self.max_tokens)
            state = self.model.new_state(len(windows), self._room)
        tokens_BT = torch.tensor([[0] * (width - len(ids)) + ids for ids in windows], device=self._device)
        if all(len(ids) == width for ids in windows):
            return self.model.forward(tokens_BT, state)
        lengths_B = torch.tensor([len(ids) for ids in windows], device=self._device)
        segments_BT = (torch.arange(width, device=self._device) >= width - lengths_B[:, None]).long()
        return self.model.forward(tokens_BT, state, segments_BT)


@torch.inference_mode()
def read_sources(model: Any, sources: Sequence[Sequence[int]], *, max_length: int) -> State:
    """Return the state of an encoder-decoder that has read these sources, with room for so many tokens."""
    device, width = next(model.parameters()).device, max(map(len, sources))
    lengths_B = torch.tensor([len(ids) for ids in sources], device=device)
    source_BS = torch.tensor([[*ids, *[0] * (width - len(ids))] for ids in sources], device=device)
    mask_BS = torch.arange(width, device=device) < lengths_B[:, None]
    state: State = model.encode(source_BS, mask_BS, max_length=max_length)
    return state


@contextmanager
def evaluating(model: LanguageModel) -> Iterator[None]:
    """Set a model to evaluation mode, and back to what it was."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)
