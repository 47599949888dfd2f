"""What a published architecture is to us: the names of its tensors, and its config both ways.

A part of a published config that our model has no counterpart for is refused by name.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from lmexp.config.model import GELU, ModelConfig, OwnModelConfig
from lmexp.errors import DataError

Published = dict[str, Any]
"""What stands in a config.json."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """A published architecture, and the model of ours that has its shape."""

    architecture: str
    """The class of transformers that reads a folder of it."""
    model_type: str
    """What config.json calls it."""
    names: Mapping[str, str]
    """Our name of each tensor and theirs; {} stands for the number of the layer."""
    fits: Callable[[Any], bool]
    """Whether a model of this config of ours has the shape."""
    read: Callable[[Published], OwnModelConfig]
    """From their config to ours; raises DataError for a part that ours lacks."""
    write: Callable[[Any, int, int], Published]
    """From our config, the rows of the embedding and the most tokens in a row, to theirs."""
    complete: Callable[[Any], Any] = lambda config: config
    """Our config with the parts that theirs always has, such as biases: exported as zeros where ours has none."""
    base: str = "model."
    """What their names may come without: a folder may hold the model without its head."""
    transposed: tuple[str, ...] = ()
    """Endings of our names whose matrices they store the other way round."""
    copies: Mapping[str, str]
    """Their names that say again what another of theirs does, when embeddings are tied."""
    unused: tuple[str, ...] = ()
    """Endings of their names that hold nothing learned, or nothing that a language model needs."""


def number(config: Published, key: str, default: Any = None) -> Any:
    """Return a number of a published config.

    Raises:
        DataError: it is missing and has no default, or is no number.
    """
    value = default if config.get(key) is None else config[key]
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise DataError(f"{key} is {'missing' if value is None else shown(value)} and must be a number")
    return value


def require(config: Published, **allowed: tuple[Any, ...]) -> None:
    """Raise unless each key has one of the values that our model can do; a key that is not there is no hindrance.

    Raises:
        DataError: with every part that has no counterpart.
    """
    wrong = [key for key, values in allowed.items() if key in config and config[key] not in values]
    if wrong:
        parts = ", ".join(f"{key}={shown(config[key])}" for key in wrong)
        raise DataError(f"{parts}: lmexp's model has no counterpart for this")


def gelu(config: Published, key: str) -> GELU:
    """Return which of the two GELUs a published config has.

    Raises:
        DataError: another activation.
    """
    kinds = {"gelu": GELU.exact, "gelu_python": GELU.exact, "gelu_new": GELU.tanh, "gelu_pytorch_tanh": GELU.tanh}
    require(config, **{key: tuple(kinds)})
    return kinds[config[key]]


def shown(value: Any) -> str:
    """Return a value of a config.json as it stands there, not at length."""
    text = json.dumps(value)
    return text if len(text) <= 100 else f"{text[:97]}..."


def is_named(name: str) -> Callable[[ModelConfig], bool]:
    """Return a test for one option of ours; a subclass by another name may compute something else."""
    return lambda config: config.name == name
