"""What is wrong with a config beyond its types: stray keys, values out of range, relations that do not hold."""

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Iterator, Sequence
from enum import Enum
from typing import Any

from omegaconf import DictConfig

from lmexp.config.roots import ROOTS
from lmexp.config.schema import OPTIONS, Option, Settings, describe_range, in_range, types_of
from lmexp.errors import Problem

FREE = (
    *("trainer.extra.", "data.columns.", "data.label_names."),
    *("corpus.sources.", "corpus.licenses.", "corpus.decontaminate.against."),
)
"""Blocks whose keys a person chooses."""
"""Below this key the names are Lightning's; TrainerConfig checks them."""


def problems_of(config: Settings, prefix: str = "") -> Iterator[Problem]:
    """Yield every problem of a config and of the blocks inside it, each with its dotted key."""
    found = list(_range_problems(config, prefix))
    yield from found
    try:
        yield from (Problem(f"{prefix}{key}", message) for key, message in config.check())
    except (ArithmeticError, TypeError):
        if not found:  # else it is a relation of values of which one is out of range, and has been reported
            raise


def _range_problems(config: Settings, prefix: str) -> Iterator[Problem]:
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if isinstance(value, Settings):
            yield from problems_of(value, f"{prefix}{field.name}.")
        elif isinstance(value, int | float | str) and not in_range(value, field.metadata):
            is_finite = isinstance(value, str) or math.isfinite(value)
            wanted = describe_range(field.metadata) if is_finite else "a finite number"
            yield Problem(f"{prefix}{field.name}", f"must be {wanted}, not {value}")


def stray_keys(node: DictConfig, prefix: str = "") -> Iterator[str]:
    """Yield the dotted keys that no dataclass has (`+key=` puts them there)."""
    schema: Any = node._metadata.object_type
    if not dataclasses.is_dataclass(schema):
        return
    names = {field.name for field in dataclasses.fields(schema)}
    for key in map(str, node):
        child: Any = node._get_node(key)
        if key not in names:
            yield f"{prefix}{key}"
        elif isinstance(child, DictConfig) and not child._is_none() and not child._is_missing():
            yield from stray_keys(child, f"{prefix}{key}.")


def dotted_keys(schema: type | None = None, prefix: str = "") -> Iterator[str]:
    """Yield every key that some option has, of one config or of all: seed, data.path, callbacks.samples.prompts, ..."""
    if schema is None:
        yield from dict.fromkeys(key for root in ROOTS.values() for key in dotted_keys(root))
        return
    hints = types_of(schema)
    for field in dataclasses.fields(schema):
        annotation, key = hints[field.name], f"{prefix}{field.name}"
        yield key
        if isinstance(annotation, type) and issubclass(annotation, Option):
            nested = (k for option in OPTIONS[annotation.group].values() for k in dotted_keys(option, f"{key}."))
            yield from dict.fromkeys(nested)
        elif isinstance(annotation, type) and issubclass(annotation, Settings):
            yield from dotted_keys(annotation, f"{key}.")


def is_known(key: str) -> bool:
    """Return whether some option has this dotted key."""
    return key.startswith(FREE) or key in dotted_keys()


def owners(key: str) -> list[str]:
    """Return the options that have a key of a group: data.path is of text."""
    group, _, rest = key.partition(".")
    return [name for name, schema in OPTIONS.get(group, {}).items() if rest in dotted_keys(schema)]


def unknown_key(key: str) -> Problem:
    """Return what to say about a key that the config does not have: whose it is, or which one is near."""
    group, _, _ = key.partition(".")
    parent, _, leaf = key.rpartition(".")
    if group == "sweep":
        return Problem(key, "belongs to a sweep as a whole: lmexp train -m; lmexp explain sweep names its keys")
    if names := owners(key):
        return Problem(key, f"the chosen {group} has no such key; it is a key of {group}={', '.join(names)}")
    if leaf.startswith("_") and leaf.endswith("_"):
        return Problem(key, "there is no such key; a config is data and names nothing to import")
    known = [*dotted_keys(), "experiment", "debug"]
    siblings = {k.rpartition(".")[2]: k for k in known if k.rpartition(".")[0] == parent}
    namesakes = [k for k in known if k.rpartition(".")[2] == leaf]
    near = [siblings[name] for name in difflib.get_close_matches(leaf, siblings, 1, 0.6)]
    as_deep = [k for k in known if k.count(".") == key.count(".")]
    guesses = [*near, *namesakes, *difflib.get_close_matches(key, as_deep, 1, 0.8)]
    return Problem(key, "there is no such key" + (f"; did you mean {guesses[0]}?" if guesses else ""))


def did_you_mean(word: str, words: Sequence[str]) -> str:
    """Return "; did you mean ...?" with the nearest word, "" when none is near."""
    guess = difflib.get_close_matches(word, words, 1, 0.6)
    return f"; did you mean {guess[0]}?" if guess else ""


def field_type(key: str) -> Any:
    """Return the annotation of a dotted key, from the first option that has it.

    Raises:
        KeyError: no option has it.
    """
    schemas: list[type] = list(ROOTS.values())
    annotation: Any = None
    for part in key.split("."):
        hints = next((h for h in map(types_of, schemas) if part in h), None)
        if hints is None:
            raise KeyError(key)
        annotation = hints[part]
        if isinstance(annotation, type) and issubclass(annotation, Option):
            schemas = list(OPTIONS[annotation.group].values())
        else:
            schemas = [annotation] if isinstance(annotation, type) and issubclass(annotation, Settings) else []
    return annotation


def union_parts(annotation: Any) -> tuple[Any, ...]:
    """Return the types that a value may have: int and NoneType of `int | None`."""
    is_union = isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union
    return typing.get_args(annotation) if is_union else (annotation,)


def describe_type(annotation: Any) -> str:
    """Return a type in words for people: "a whole number or null"."""
    parts = union_parts(annotation)
    if len(parts) > 1:
        return " or ".join(map(describe_type, parts))
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return "one of " + ", ".join(member.name for member in annotation)
    words = {
        int: "a whole number",
        float: "a number",
        str: "a text",
        bool: "true or false",
        typing.Any: "a value",
        types.NoneType: "null",
    }
    return words.get(annotation) or {list: "a list: [a,b]", dict: "keys with values"}.get(
        typing.get_origin(annotation), "a block of keys"
    )
