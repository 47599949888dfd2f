"""The model that a preference is learned from: the one that a run begins with.

Precomputed, it is asked once about all pairs, and its answers travel in the checkpoint. Live, it is asked at every
step: a copy of the model, whose weights travel in the checkpoint, or the model itself without its adapters.
Shapes: B rows, T tokens, C hidden size, N learned tokens, P pairs.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from lmexp.data.batches import IGNORE, Batch
from lmexp.data.order import evaluation_batches
from lmexp.data.source import SPLITS
from lmexp.errors import RunError
from lmexp.models.state import LanguageModel
from lmexp.tasks.base import Task

NOT_ASKED = (
    "a run of task=preference is measured against what its model was as it began, in training only: see its metrics; "
    "lmexp chat and lmexp generate ask it"
)


class Precomputed:
    """A table of what the reference says about each pair."""

    def __init__(self) -> None:
        self.state: dict[str, Tensor] = {}

    def begin(self, task: Task) -> None:
        """Ask about all pairs, each rank about its own, unless that is done."""
        if self.state:
            return
        trainer = task.trainer
        for split in SPLITS:
            counts = task.corpus.splits[split]
            table_P2 = torch.zeros(counts.documents // 2, 2, device=task.device)
            place = {"rank": trainer.global_rank, "world_size": trainer.world_size}
            batches = evaluation_batches(task.corpus.open(split), task.config.data, **place)
            for number in range(len(batches)):
                batch = {key: value.to(task.device) for key, value in batches[number].items()}
                with _asked(task.model) as model:
                    table_P2[batch["units_U"]] = log_likelihoods(model, batch).to(table_P2)
            self.state[split] = trainer.strategy.reduce(table_P2, reduce_op="sum").cpu()

    def load(self, task: Task, state: dict[str, Tensor]) -> None:
        """Go on with what was asked before."""
        self.state = state

    def __call__(self, task: Task, batch: Batch, split: str) -> Tensor:
        """Return what the reference says about both answers of each pair.

        Raises:
            RunError: it was not asked, for that happens in training.
        """
        if not self.state:
            raise RunError(NOT_ASKED)
        return self.state[split][batch["units_U"].cpu()]


class Live:
    """A model that is asked."""

    def __init__(self) -> None:
        self._copy: list[LanguageModel] = []  # in a list, for it is no part of what is trained
        self._has_adapters = False

    def begin(self, task: Task) -> None:
        """Copy the model, unless that is done; one with adapters is its own reference without them."""
        self._has_adapters = task.config.model.lora.rank is not None
        if not self._copy and not self._has_adapters:
            self._copy = [copy.deepcopy(task.model).requires_grad_(False).eval()]

    @property
    def state(self) -> dict[str, Tensor]:
        """The weights of the copy."""
        return self._copy[0].state_dict() if self._copy else {}

    def load(self, task: Task, state: dict[str, Tensor]) -> None:
        """Go on with the copy that was made before."""
        if state:
            model = copy.deepcopy(task.model).requires_grad_(False).eval()
            model.load_state_dict(state)
            self._copy = [model]

    def __call__(self, task: Task, batch: Batch, split: str) -> Tensor:
        if not self._copy and not self._has_adapters:
            raise RunError(NOT_ASKED)
        with _asked(self._copy[0] if self._copy else task.model, without_adapters=self._has_adapters) as model:
            return log_likelihoods(model, batch)


def log_likelihoods(model: LanguageModel, batch: Batch) -> Tensor:
    """Return the log-probability of what is learned of both examples of each pair.

    Shape: (P, 2). Unit: nats.
    """
    hidden_BTC, _ = model(batch["tokens_BT"], None, batch["segments_BT"])
    is_learned_BT = batch["targets_BT"] != IGNORE
    nll_N = model.head.nll(hidden_BTC[is_learned_BT], batch["targets_BT"][is_learned_BT])
    log_p = nll_N.new_zeros(2 * len(batch["units_U"])).index_add(0, batch["examples_BT"][is_learned_BT], -nll_N)
    return log_p.view(-1, 2)


@contextmanager
def _asked(model: LanguageModel, *, without_adapters: bool = False) -> Iterator[LanguageModel]:
    """Give a model that draws no dropout and gets no gradients."""
    was_training = model.training
    adapted: list[Any] = [m for m in model.modules() if hasattr(m, "enable_adapters")] if without_adapters else []
    model.eval()
    for layer in adapted:
        layer.enable_adapters(False)
    try:
        with torch.no_grad():
            yield model
    finally:
        for layer in adapted:
            layer.enable_adapters(True)
        model.train(was_training)
