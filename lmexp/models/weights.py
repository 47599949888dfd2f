"""Are these the weights of this model: names and shapes, said in one line when they are not."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from lmexp.config.model import ModelConfig
from lmexp.config.schema import build
from lmexp.errors import DataError

Shapes = Mapping[str, tuple[int, ...]]


def load(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Copy weights into a model.

    Raises:
        DataError: they are not the weights of this model; says which, expected and found.
    """
    compare(
        {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()},
        {name: tuple(tensor.shape) for name, tensor in weights.items()},
    )
    model.load_state_dict(dict(weights))


def grown(weights: Mapping[str, Tensor], expected: Shapes, *, rows: tuple[int, int]) -> dict[str, Tensor]:
    """Return weights for a vocabulary of `rows[1]` tokens in the place of `rows[0]`: a new token begins as the mean of
    the others.

    Source: Hewitt 2021, "Initializing new word embeddings for pretrained language models".
    """
    old, new = rows
    result = dict(weights)
    for name, tensor in weights.items():
        if name in expected and tensor.shape[:1] == (old,) and tuple(expected[name]) == (new, *tensor.shape[1:]):
            mean = tensor.float().mean(dim=0, keepdim=True).to(tensor.dtype)
            result[name] = torch.cat((tensor, mean.expand(new - old, *tensor.shape[1:])))
    return result


def outline(config: ModelConfig, *, vocab_size: int, context_length: int) -> tuple[Shapes, dict[str, str]]:
    """Return the shape of each tensor of a model, and which names mean the same one; takes no memory."""
    with torch.device("meta"):
        model = build(config, vocab_size=vocab_size, context_length=context_length)
    first: dict[int, str] = {}
    tied = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) in first:
            tied[name] = first[id(tensor)]
        else:
            first[id(tensor)] = name
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items() if name not in tied}
    return shapes, tied


def compare(expected: Shapes, found: Shapes) -> None:
    """Raise when tensors are not those that a model has.

    Raises:
        DataError: with names and shapes in one line.
    """
    wrong = [
        f"{name}: expected {list(shape)}, found {list(found[name])}"
        for name, shape in expected.items()
        if name in found and tuple(found[name]) != tuple(shape)
    ]
    problems = {
        "missing tensors": _described(expected, expected.keys() - found.keys()),
        "tensors that the model does not have": _described(found, found.keys() - expected.keys()),
        "tensors of another shape": wrong,
    }
    if any(problems.values()):
        raise DataError("; ".join(f"{what}: {_few(names)}" for what, names in problems.items() if names))


def _described(shapes: Shapes, names: Iterable[str]) -> list[str]:
    chosen = set(names)
    return [f"{name} {list(shape)}" for name, shape in shapes.items() if name in chosen]


def _few(names: list[str], most: int = 4) -> str:
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
