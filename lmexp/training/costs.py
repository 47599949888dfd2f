"""What a run will cost, known before it is trained: parameters, floating-point operations, memory, disk.

The model is built without memory (on the meta device), so parameters are exact. Memory is simulated (`memory.py`).
Time is not foretold: it depends on the machine, and a run shows it after its first steps.
"""

import hashlib
import json
import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from lmexp.config.data import AUTO, Content
from lmexp.config.schema import built_class
from lmexp.config.store import to_dict
from lmexp.config.tokenizer import BytesConfig, SentencePieceConfig, TokenizerConfig
from lmexp.config.train import TrainConfig
from lmexp.config.trainer import Accelerator
from lmexp.data.cache import cache_folder
from lmexp.data.corpus import Corpus, prepare
from lmexp.data.order import training_batches
from lmexp.models.adapters import build_model, num_trainable
from lmexp.models.state import LanguageModel
from lmexp.runs import RunFolder
from lmexp.runs.folder import replace_file
from lmexp.runs.provenance import source_hash
from lmexp.runs.summary import in_bytes
from lmexp.tasks.base import steps_per_stretch
from lmexp.tokenization.bytes import Bytes
from lmexp.training.memory import TensorMemory, num_devices, simulate
from lmexp.training.resident import RUN_BYTES, resident_bytes, returns_large_tensors

BYTES_OF_ID = 8


@dataclass(frozen=True)
class Memory:
    """Bytes at the peak, part by part; on a GPU those of tensors there, on a CPU those of the whole process."""

    weights: int
    gradients: int
    optimizer_state: int
    activations: int
    """What the backward pass needs, and what a computation takes for a moment."""
    heap_holes: int
    batches: int
    process: int

    @property
    def total(self) -> int:
        """The bytes of all parts."""
        return sum(asdict(self).values())


@dataclass(frozen=True)
class Costs:
    """What a run takes."""

    parameters: int
    trainable: int
    embedding: int
    parts: dict[str, int]
    flops_per_token: float
    rows_per_micro_step: int
    micro_steps_per_step: int
    tokens_per_step: int
    steps: int
    checkpoint_bytes: int
    memory: Memory | None
    tensors: TensorMemory | None


def count(
    config: TrainConfig, corpus: Corpus | None = None, architecture: Path | None = None, *, least_flops: float = 0.0
) -> Costs:
    """Return the costs of a run on this machine; the text is prepared only where it must be looked at.

    `architecture` is the file that says what a pretrained model is made of, where a checkpoint brings its weights.
    No memory is simulated where a micro-step takes less than `least_flops`.

    Raises:
        LmexpError: the model cannot be built, or the text cannot be prepared.
    """
    if config.data.batch_size == AUTO:
        from lmexp.training.batch_size import largest_batch_size  # which counts the costs of numbers

        return count(config.settled(largest_batch_size(config, corpus, architecture)), corpus, architecture)
    config = config.settled()
    tokenizer = _known(config.tokenizer)
    is_of_text = config.data.content not in (Content.labels, Content.pairs)
    if corpus is None and (tokenizer is None or not is_of_text or config.trainer.max_epochs is not None):
        corpus = prepare(config.data, config.tokenizer)
    if architecture is None and config.init_from is not None:
        architecture = RunFolder(Path(config.init_from)).architecture
    with torch.device("meta"):
        labels = () if corpus is None else corpus.labels
        model = build_model(config, tokenizer if corpus is None else corpus.tokenizer, architecture, labels=labels)
    counted = _count_parameters(model)
    weights = sum(tensor.nbytes for tensor in {id(t): t for t in model.state_dict(keep_vars=True).values()}.values())
    task, length = built_class(config.task), config.data.context_length
    flops = task.count_flops(config.task, model, length)
    tokens = config.rows_per_step * length
    is_large = flops * tokens / config.trainer.accumulate >= least_flops
    tensors = _simulated(model, config) if is_large else None
    return Costs(
        **counted,
        flops_per_token=flops,
        rows_per_micro_step=config.data.rows,
        micro_steps_per_step=config.trainer.accumulate,
        tokens_per_step=tokens,
        steps=config.trainer.max_steps if corpus is None else count_steps(config, corpus),
        checkpoint_bytes=weights * (1 if config.callbacks.ema_decay is None else 2)
        + (tensors.optimizer if tensors else 0),
        memory=None if tensors is None else _memory(config, tensors),
        tensors=tensors,
    )


def count_steps(config: TrainConfig, corpus: Corpus) -> int:
    """Return the optimizer steps of a run; epochs are translated with the size of the training split."""
    if config.trainer.max_epochs is None:
        return config.trainer.max_steps
    accumulate = config.trainer.accumulate
    batches = training_batches(corpus.open("train"), config.data, seed=config.seed, accumulate=accumulate)
    return max(1, math.ceil(config.trainer.max_epochs * batches.batches_per_epoch / accumulate))


def as_dict(costs: Costs) -> dict[str, Any]:
    """Return the costs as JSON has them."""
    memory = costs.memory
    return {
        "parameters": {
            "total": costs.parameters,
            "trainable": costs.trainable,
            "embedding": costs.embedding,
            "parts": costs.parts,
        },
        "flops": {
            "per_token": costs.flops_per_token,
            "per_step": costs.flops_per_token * costs.tokens_per_step,
            "run": costs.flops_per_token * costs.tokens_per_step * costs.steps,
        },
        "rows": {"per_micro_step": costs.rows_per_micro_step, "micro_steps_per_step": costs.micro_steps_per_step},
        "tokens": {"per_step": costs.tokens_per_step, "run": costs.tokens_per_step * costs.steps},
        "steps": costs.steps,
        "memory_bytes": None if memory is None else {"peak": memory.total, **asdict(memory)},
        "checkpoint_bytes": costs.checkpoint_bytes,
    }


def as_text(costs: Costs) -> str:
    """Return the costs as lines for people."""
    rows = list(_rows(costs))
    width, number = (max(len(row[column]) for row in rows) for column in (0, 1))
    return "\n".join(f"{name:<{width}}  {value:>{number}}  {note}".rstrip() for name, value, note in rows)


def _rows(costs: Costs) -> Iterator[tuple[str, str, str]]:
    """Yield (what, how much, note)."""
    frozen = costs.parameters - costs.trainable
    trained = f"{costs.trainable:,} of them trained" if frozen else "all of them trained"
    yield "parameters", f"{costs.parameters:,}", trained
    for name, size in costs.parts.items():
        yield f"  {name}", f"{size:,}", f"{size / costs.parameters:.1%}"
    yield "embedding tables", f"{costs.embedding:,}", f"{costs.embedding / costs.parameters:.1%} of the parameters"
    tokens = costs.tokens_per_step
    micro_steps = f"{costs.micro_steps_per_step:,} micro-steps" if costs.micro_steps_per_step > 1 else "1 micro-step"
    yield "rows", f"{costs.rows_per_micro_step:,}", f"a micro-step; {micro_steps} a step"
    yield "tokens", f"{tokens:,}", f"a step; {tokens * costs.steps:,} in {costs.steps:,} steps"
    flops = costs.flops_per_token
    yield (
        "operations",
        f"{flops:.3g}",
        f"a token; {flops * tokens:.3g} a step, {flops * tokens * costs.steps:.3g} in all",
    )
    if costs.memory is None:
        yield "memory", "?", "this model does what cannot be simulated"
    else:
        yield "memory", in_bytes(costs.memory.total), "at the peak"
        for name, size in asdict(costs.memory).items():
            if size:
                yield f"  {name.replace('_', ' ')}", in_bytes(size), NOTES.get(name, "")
    yield "checkpoint", in_bytes(costs.checkpoint_bytes), "on disk, each"


NOTES = {
    "activations": "and what is computed with them for a moment",
    "heap_holes": "what malloc keeps free between tensors",
    "process": "Python, torch and what they load",
}


def _known(config: TokenizerConfig) -> Any:
    """Return what a model must know of a tokenizer that is not learned yet, None where only the text can tell."""
    if isinstance(config, SentencePieceConfig):
        return SimpleNamespace(vocab_size=config.vocab_size, mask_id=None, source=None)
    return Bytes(config, learned=None) if isinstance(config, BytesConfig) else None


def _count_parameters(model: LanguageModel) -> dict[str, Any]:
    lookups = {id(m.weight): m.weight.numel() for m in model.modules() if isinstance(m, nn.Embedding)}
    parts: dict[str, int] = {}
    for name, parameter in model.named_parameters():  # tied ones come once
        part = name.partition(".")[0]
        parts[part] = parts.get(part, 0) + parameter.numel()
    return {
        "parameters": model.num_parameters(),
        "trainable": num_trainable(model),
        "embedding": sum(lookups.values()),
        "parts": parts,
    }


def _simulated(model: LanguageModel, config: TrainConfig) -> TensorMemory | None:
    """Return the simulated memory of tensors, None where a model of others does what cannot be simulated.

    What was found once is kept in the cache: a simulation takes some tenths of a second, and runs that differ in their
    seed or a learning rate come to the same.
    """
    kept = cache_folder(config.data) / "memory" / f"{_shape_hash(model, config)}.json"
    with suppress(OSError, ValueError, TypeError):
        return TensorMemory(**json.loads(kept.read_text(encoding="utf-8")))
    try:
        found = simulate(model, config)
    except (RuntimeError, NotImplementedError):
        return None
    with suppress(OSError):
        kept.parent.mkdir(parents=True, exist_ok=True)
        replace_file(kept, json.dumps(asdict(found)))
    return found


def _shape_hash(model: LanguageModel, config: TrainConfig) -> str:
    """Return a hash of all that the memory of a step depends on: of an optimizer's numbers, which of them are 0."""
    values = to_dict(config)
    optimizer = {key: bool(one) if isinstance(one, float) else one for key, one in values["optimizer"].items()}
    parts: list[Any] = [{key: values[key] for key in ("model", "data", "task", "trainer")}, optimizer]
    parts += [num_devices(config), source_hash(), torch.__version__]
    parts += [[name, list(one.shape), str(one.dtype), one.requires_grad] for name, one in model.named_parameters()]
    return hashlib.blake2b(json.dumps(parts, default=str).encode(), digest_size=12).hexdigest()


def _memory(config: TrainConfig, tensors: TensorMemory) -> Memory:
    devices = num_devices(config)
    tokens = config.data.rows // devices * config.data.context_length
    ids = (2 if config.data.segments else 1) * BYTES_OF_ID
    on_gpu = config.trainer.accelerator is Accelerator.gpu
    ahead = 1 if on_gpu else 2  # one stretch of steps is read while the one before it is trained on
    return Memory(
        weights=tensors.weights * (1 if config.callbacks.ema_decay is None else 2),
        gradients=tensors.gradients + (tensors.weights if devices > 1 else 0),  # DDP's buckets
        optimizer_state=tensors.optimizer,
        activations=tensors.activations,
        heap_holes=0 if on_gpu or returns_large_tensors(tensors.in_heap) else tensors.holes,
        batches=ahead * steps_per_stretch(config) * config.trainer.accumulate * tokens * ids,
        process=0 if on_gpu else resident_bytes() + RUN_BYTES,
    )
