"""Tensors from a published model to ours and back.

What ours should have is read from our model itself, built without memory (device meta); so a tensor that is missing,
left over or of another shape is known before anything is copied. All weights become float32.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from lmexp.config.check import problems_of
from lmexp.config.model import ModelConfig, OwnModelConfig
from lmexp.errors import DataError
from lmexp.interchange.bert import BERT
from lmexp.interchange.family import Family, Published, require, shown
from lmexp.interchange.gpt2 import GPT2
from lmexp.interchange.llama import LLAMA, QWEN3
from lmexp.models.weights import compare, outline

FAMILIES = (LLAMA, QWEN3, GPT2, BERT)


def family_of(config: ModelConfig) -> Family | None:
    """Return the published architecture that a model of ours has the shape of, None when it has none."""
    return next((family for family in FAMILIES if family.fits(config)), None)


def read_config(published: Published) -> tuple[Family, OwnModelConfig]:
    """Return the family and our config of a config.json.

    Raises:
        DataError: another architecture, or a part that our model lacks.
    """
    named = published.get("architectures") or []
    kind = published.get("model_type")
    family = next((f for f in FAMILIES if f.architecture in named or (not named and f.model_type == kind)), None)
    if family is None:
        known = ", ".join(family.architecture for family in FAMILIES)
        found = ", ".join(map(str, named)) or f"of model_type {shown(kind)}"
        raise DataError(f"the architecture is {found}; lmexp has a counterpart for {known}")
    require(published, quantization_config=(None,))
    config = family.read(published)
    problems = [str(problem) for problem in problems_of(config)]
    if problems:
        raise DataError("; ".join(problems))
    return family, config


def write_config(family: Family, config: OwnModelConfig, *, vocab_size: int, max_length: int) -> Published:
    """Return what transformers wants in config.json, but for the numbers of special tokens."""
    about = {"architectures": [family.architecture], "model_type": family.model_type, "dtype": "float32"}
    return about | family.write(config, vocab_size, max_length) | {"initializer_range": 0.02, "use_cache": True}


def to_published(family: Family, config: OwnModelConfig, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return our weights under their names, each once; a bias that ours does not have is 0."""
    vocab_size, max_length = len(weights["embedding.weight"]), _table_length(weights)
    result = {}
    for ours, (theirs, shape) in _expected(family, config, vocab_size, max_length).items():
        tensor = weights[ours].float() if ours in weights else torch.zeros(shape)
        result[theirs] = _turned(family, ours, tensor).contiguous()
    if not config.tie_embeddings:  # then transformers does not tie a bias either
        result |= {copy: result[same].clone() for copy, same in family.copies.items() if copy not in result}
    return result


def from_published(family: Family, config: OwnModelConfig, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return our weights from theirs.

    Raises:
        DataError: a tensor is missing, left over or of another shape; says which, expected and found.
    """
    assert config.vocab_size is not None
    expected = _expected(family, config, config.vocab_size, getattr(config, "max_positions", None) or 1)
    names = {theirs for theirs, _ in expected.values()}
    found = _named(family, tensors, names)
    for copy, original in family.copies.items():
        if copy in found and original in found and copy not in names:
            if not torch.equal(found[copy], found[original]):
                raise DataError(f"{copy} is not {original}, though the config says that embeddings are tied")
            del found[copy]
    shapes = {
        theirs: tuple(reversed(shape)) if _is_turned(family, ours) else shape
        for ours, (theirs, shape) in expected.items()
    }
    compare(shapes, {name: tuple(tensor.shape) for name, tensor in found.items()})
    ours = {name: _turned(family, name, found[theirs]).float() for name, (theirs, _) in expected.items()}
    return {name: tensor.contiguous() for name, tensor in ours.items()}


def _expected(
    family: Family, config: OwnModelConfig, vocab_size: int, max_length: int
) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Return, by our names, their names and our shapes."""
    shapes, _ = outline(family.complete(config), vocab_size=vocab_size, context_length=max_length)
    result = {}
    for ours, shape in shapes.items():
        layer = re.search(r"\.(\d+)\.", ours)
        pattern = ours if layer is None else ours.replace(layer[0], ".{}.", 1)
        result[ours] = (family.names[pattern].format(layer and layer[1]), shape)
    return result


def _named(family: Family, tensors: Mapping[str, Tensor], wanted: set[str]) -> dict[str, Tensor]:
    """Return tensors under their full names, without those that hold nothing learned."""
    found = {}
    for name, tensor in tensors.items():
        full = f"{family.base}{name}"
        known = name if name in wanted or full not in wanted else full
        if known in wanted or not name.endswith(family.unused):
            found[known] = tensor
    return found


def _is_turned(family: Family, ours: str) -> bool:
    return bool(family.transposed) and ours.endswith(family.transposed)


def _turned(family: Family, ours: str, tensor: Tensor) -> Tensor:
    return tensor.T if _is_turned(family, ours) else tensor


def _table_length(weights: Mapping[str, Tensor]) -> int:
    return len(weights["position_embedding.weight"]) if "position_embedding.weight" in weights else 1
