"""What is wrong with a config beyond its types: stray keys, values out of range, relations that do not hold."""

import dataclasses
import types
import typing
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Any

from omegaconf import DictConfig

from lmexp.config.schema import OPTIONS, Option, Settings, describe_range, in_range
from lmexp.config.train import TrainConfig
from lmexp.errors import Problem


def problems_of(config: Settings, prefix: str = "") -> Iterator[Problem]:
    """Yield every problem of a config and of the blocks inside it, each with its dotted key."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if isinstance(value, Settings):
            yield from problems_of(value, f"{prefix}{field.name}.")
        elif value is not None and not isinstance(value, Enum | list | dict) and not in_range(value, field.metadata):
            yield Problem(f"{prefix}{field.name}", f"must be {describe_range(field.metadata)}, not {value}")
    try:
        yield from (Problem(f"{prefix}{key}", message) for key, message in config.check())
    except (ArithmeticError, TypeError):
        pass  # a relation of values of which one is out of range, and has been reported


def stray_keys(node: DictConfig, prefix: str = "") -> Iterator[str]:
    """Yield the dotted keys that no dataclass has (`+key=` puts them there)."""
    schema: Any = node._metadata.object_type
    if not dataclasses.is_dataclass(schema):
        return
    names = {field.name for field in dataclasses.fields(schema)}
    for key in node:
        child = node._get_node(key)
        if key not in names:
            yield f"{prefix}{key}"
        elif isinstance(child, DictConfig) and not child._is_none() and not child._is_missing():
            yield from stray_keys(child, f"{prefix}{key}.")


def dotted_keys(schema: type = TrainConfig, prefix: str = "") -> Iterator[str]:
    """Yield every key that some option has: seed, data.path, callbacks.samples.prompts, ..."""
    hints = typing.get_type_hints(schema)
    for field in dataclasses.fields(schema):
        annotation, key = hints[field.name], f"{prefix}{field.name}"
        yield key
        if isinstance(annotation, type) and issubclass(annotation, Option):
            nested = (k for option in OPTIONS[annotation.group].values() for k in dotted_keys(option, f"{key}."))
            yield from dict.fromkeys(nested)
        elif isinstance(annotation, type) and issubclass(annotation, Settings):
            yield from dotted_keys(annotation, f"{key}.")


def field_type(key: str, options_of: Callable[[str], list[type]]) -> Any:
    """Return the annotation of a dotted key, from the first option that has it.

    Raises:
        KeyError: no option has it.
    """
    schemas: list[type] = [TrainConfig]
    annotation: Any = None
    for part in key.split("."):
        hints = next((h for h in map(typing.get_type_hints, schemas) if part in h), None)
        if hints is None:
            raise KeyError(key)
        annotation = hints[part]
        if isinstance(annotation, type) and issubclass(annotation, Option):
            schemas = options_of(annotation.group)
        else:
            schemas = [annotation] if dataclasses.is_dataclass(annotation) else []
    return annotation


def describe_type(annotation: Any) -> str:
    """Return a type in words for people: "a whole number or null"."""
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
        return " or ".join(describe_type(part) for part in typing.get_args(annotation))
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return "one of " + ", ".join(member.name for member in annotation)
    words = {int: "a whole number", float: "a number", str: "a text", bool: "true or false", types.NoneType: "null"}
    return words.get(annotation) or {list: "a list: [a,b]", dict: "keys with values"}.get(
        typing.get_origin(annotation), "a block of keys"
    )
