"""How much memory training takes: foretold from one step without data, and measured by the operating system.

A step is simulated on tensors without content (torch's fake tensors), and every storage is counted from its birth to
its end. So what is counted is what torch's allocator would hand out, to the byte; on a CPU the LSTM of oneDNN gets its
workspace, which the simulation cannot see. The holes that malloc leaves between
them on a CPU are those of a heap which the same births and ends are played to (`heap.py`). Not counted: the scratch
memory of other kernels, and what torch.compile changes. A GPU is taken to do as a CPU does. Shapes: B rows, T tokens.
"""

import itertools
import warnings
import weakref
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.optim import Optimizer
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from lmexp.config.model import Kind
from lmexp.config.schema import build
from lmexp.config.train import TrainConfig
from lmexp.config.trainer import count_gpus
from lmexp.models.classifier import LabelHead
from lmexp.models.heads import CHUNK_TOKENS
from lmexp.models.state import LanguageModel
from lmexp.training.heap import LARGEST_IN_HEAP_BYTES, Event, born_for_good, peak_bytes

aten = torch.ops.aten

LARGEST_EVALUATION_CHUNK = 8 * CHUNK_TOKENS


@dataclass(frozen=True)
class TensorMemory:
    """Bytes of tensors at the peak of a step, and of the weights and the optimizer's state at any time."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    """All else: what the backward pass needs, and what a computation takes for a moment."""
    in_heap: int
    """Part of these that lies in tensors which malloc keeps in its heap."""
    holes: int
    """What malloc holds beside them, where it keeps them in its heap."""

    @property
    def total(self) -> int:
        """The bytes of all tensors at the peak."""
        return self.weights + self.gradients + self.optimizer + self.activations


def simulate(model: LanguageModel, config: TrainConfig) -> TensorMemory:
    """Return the peak of one training step, and of an evaluation where its batches are larger.

    The model is one without memory (on the meta device) and is good for nothing afterwards.

    Raises:
        RuntimeError: the model does what cannot be simulated, such as reading a number from a hidden state.
    """
    with FakeTensorMode(allow_non_fake_inputs=True):
        _leave_meta(model)
        optimizer = build(config.optimizer, model=model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns at itself where it makes a tensor that is not fake
        return step(model, optimizer, config)


def step(model: LanguageModel, optimizer: Optimizer, config: TrainConfig) -> TensorMemory:
    """Return the peak of one training step that is done now, with a new optimizer."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    storages = Storages()
    for tensor in (*model.parameters(), *model.buffers()):
        storages.add(tensor)
    weights = storages.live
    for tensor in tree_leaves(list(optimizer.state.values())):
        storages.add(tensor)
    with storages:
        for parameter in trained:
            parameter.grad = torch.empty_like(parameter)
            storages.count_gradient(parameter)
        if config.trainer.gradient_clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(trained, config.trainer.gradient_clip_norm)
        optimizer.step()
        state = storages.live - weights - storages.gradients
        if config.trainer.accumulate == 1:
            optimizer.zero_grad(set_to_none=True)
            storages.gradients = 0
            for parameter in trained:
                parameter.register_post_accumulate_grad_hook(storages.count_gradient)
        with _precision(config):
            loss = _loss(model.train(), config, config.data.rows // num_devices(config))
        loss.backward()
        del loss
        optimizer.zero_grad(set_to_none=True)
        storages.gradients = 0
        training, storages.events = storages.events, born_for_good(storages.events)
        rows = config.data.evaluation_batch_size or 0
        if rows > config.data.rows:
            with torch.no_grad(), _precision(config):
                _loss(model.eval(), config, rows)
    rest = storages.peak - weights - state - storages.peak_gradients
    in_heaps = max(peak_bytes(training), peak_bytes(storages.events))  # the holes are given back between the two
    holes = max(0, in_heaps - storages.peak)
    return TensorMemory(weights, storages.peak_gradients, state, rest, storages.peak_in_heap, holes)


class Storages(TorchDispatchMode):
    """Counts the bytes of all storages alive, and what they came to at most."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.in_heap = self.gradients = 0
        self.peak = self.peak_in_heap = self.peak_gradients = 0
        self.events: list[Event] = []
        self._known = WeakIdKeyDictionary()
        self._blocks = itertools.count()

    def add(self, tensor: Tensor, size: int | None = None) -> None:
        """Count the storage of a tensor until it is freed."""
        storage = tensor.untyped_storage()
        if storage not in self._known:
            size = storage.nbytes() if size is None else size
            self._known[storage] = size
            block = next(self._blocks)
            self._note(Event(block, size))
            weakref.finalize(storage, self._note, Event(block, size, is_end=True))

    def count_gradient(self, parameter: Tensor) -> None:
        """Note that a parameter has its gradient now."""
        if parameter.grad is not None:
            self.gradients += parameter.grad.nbytes

    def _note(self, event: Event) -> None:
        self.events.append(event)
        size = -event.size if event.is_end else event.size
        self.live += size
        if event.size <= LARGEST_IN_HEAP_BYTES:
            self.in_heap += size
        self._remember(0)

    def _remember(self, for_a_moment: int) -> None:
        if self.live + for_a_moment > self.peak:
            self.peak, self.peak_in_heap = self.live + for_a_moment, self.in_heap
            self.peak_gradients = self.gradients

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is aten.index.Tensor:
            args = (args[0], _as_numbers(args[1]))
        out = func(*args, **(kwargs or {}))
        if func is aten.mkldnn_rnn_layer.default and args[15]:
            workspace = out[3] if out[3].numel() else args[0].new_empty(1)  # the simulation has none
            out = (*out[:3], workspace)
            self.add(workspace, lstm_workspace_bytes(args[0], args[10]))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                self.add(tensor)
        scratch = _scratch_bytes(func, args)
        self._remember(scratch)
        if scratch:
            block = next(self._blocks)
            self.events += [Event(block, scratch), Event(block, scratch, is_end=True)]
        return out


def _scratch_bytes(func: Any, args: Any) -> int:
    """Return what a kernel takes beside its outputs, for those that take much."""
    if func in (aten.mkldnn_rnn_layer.default, aten.mkldnn_rnn_layer_backward.default):
        gates, weights = 4 * args[0].shape[0] * args[0].shape[1] * args[1].shape[0], args[1].nbytes + args[2].nbytes
        if func is aten.mkldnn_rnn_layer.default:
            return gates + weights
        return gates + 2 * weights + lstm_workspace_bytes(args[0], args[1].shape[0] // 4)  # it writes the rest of it
    return 0


def lstm_workspace_bytes(x: Tensor, hidden_size: int) -> int:
    """Return what oneDNN writes in the forward pass of an LSTM and keeps for the backward pass: gates and cells.

    It asks for three times as much, which takes no memory before it is written. Found by measuring, as a test does.
    Shape: (T, B, C).
    """
    return 4 * x.shape[0] * x.shape[1] * 5 * hidden_size


def _as_numbers(indices: list[Tensor | None]) -> list[Tensor | None]:
    """Return indices with masks turned into positions: how many there are is known for tensors with content."""
    numbers: list[Tensor | None] = []
    for index in indices:
        numbers += index.nonzero().unbind(1) if index is not None and index.dtype is torch.bool else [index]
    return numbers


def num_devices(config: TrainConfig) -> int:
    """Return how many processes share a batch."""
    return config.trainer.devices or max(1, count_gpus())


def _loss(model: LanguageModel, config: TrainConfig, rows: int) -> Tensor:
    """Return the loss of a batch; its tokens are real, for they say which path a model takes."""
    length, vocabulary = config.data.context_length, model.head.weight.shape[0]
    tokens_BT = (torch.arange(rows * length) % vocabulary).view(rows, length)
    targets_BT = tokens_BT.flip(1)
    if config.model.kind is Kind.encoder_decoder:
        source_model: Any = model
        hidden_BTC, _ = model(tokens_BT, source_model.encode(tokens_BT))
    else:
        segments_BT = torch.ones_like(tokens_BT) if config.data.segments else None
        hidden_BTC, _ = model(tokens_BT, None, segments_BT)
    if isinstance(model.head, LabelHead):
        return model.head.scores(hidden_BTC, torch.ones_like(tokens_BT, dtype=torch.bool)).sum()
    share = getattr(config.task, "masked_fraction", None)
    if share is not None:
        is_target_BT = torch.arange(rows * length).view(rows, length) % 100 < share * 100
        hidden_BTC, targets_BT = hidden_BTC[is_target_BT], targets_BT[is_target_BT]
    if not torch.is_grad_enabled():  # goes through a few tokens at a time
        few = slice(LARGEST_EVALUATION_CHUNK)
        return model.head.nll(hidden_BTC.flatten(0, -2)[few], targets_BT.flatten()[few]).sum()
    loss = model.head.nll_sum(hidden_BTC, targets_BT) / targets_BT.numel()
    return loss if model.penalty is None else loss + model.penalty


def _precision(config: TrainConfig) -> Any:
    return torch.autocast("cpu", torch.bfloat16) if config.trainer.precision == "bf16-mixed" else nullcontext()


def _leave_meta(model: nn.Module) -> None:
    """Put fake tensors of the CPU in the place of those of the meta device; tied weights stay tied."""
    made: dict[int, Any] = {}
    for module in model.modules():
        for named in (module._parameters, module._buffers):
            for name, tensor in named.items():
                if tensor is None:
                    continue
                if id(tensor) not in made:
                    empty: Any = torch.empty_like(tensor, device="cpu")
                    is_weight = isinstance(tensor, nn.Parameter)
                    made[id(tensor)] = nn.Parameter(empty, tensor.requires_grad) if is_weight else empty
                named[name] = made[id(tensor)]
