"""What a config is made of: settings with ranges and a text under each, and named options of groups.

A dataclass is the schema, the default and the documentation of its keys (decision 001). An option carries two class
constants in our own code: `name`, which is written to config.yaml, and `builds`, the class that it becomes. A config
file never names a class to import, so a config from a stranger is data.
"""

import dataclasses
import math
import typing
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from typing import Any, ClassVar

from lmexp.errors import ConfigError, Problem

OPTIONS: dict[str, dict[str, type["Option"]]] = {}
"""The dataclass of every option: OPTIONS["model"]["lstm"] is LSTMConfig. Filled by defining the classes."""


def setting(
    default: Any = dataclasses.MISSING,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    above: float | None = None,
    below: float | None = None,
    one_of: tuple[str, ...] | None = None,
    identity: bool = True,
    default_factory: Any = dataclasses.MISSING,
) -> Any:
    """Return a dataclass field with a range.

    `identity=False` marks what does not change the result of an experiment (paths, loggers, devices); such keys do not
    enter the hash that names the run folder.
    """
    metadata = {
        "at_least": at_least,
        "at_most": at_most,
        "above": above,
        "below": below,
        "one_of": one_of,
        "identity": identity,
    }
    if default_factory is not dataclasses.MISSING:
        return dataclasses.field(default_factory=default_factory, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def describe_range(metadata: Mapping[str, Any]) -> str:
    """Return the allowed values of a setting in words, "" when everything of its type is allowed."""
    if metadata.get("one_of"):
        return "one of " + ", ".join(metadata["one_of"])
    words = {"at_least": "at least", "above": "above", "at_most": "at most", "below": "below"}
    return ", ".join(f"{word} {metadata[key]:g}" for key, word in words.items() if metadata.get(key) is not None)


@cache
def types_of(schema: type) -> dict[str, Any]:
    """Return the type of each key of a config."""
    return typing.get_type_hints(schema)


def in_range(value: float | str, metadata: Mapping[str, Any]) -> bool:
    """Return whether a value lies in the range of its setting."""
    if metadata.get("one_of"):
        return value in metadata["one_of"]
    if isinstance(value, str):
        return True
    if not math.isfinite(value):
        return False
    low, high = metadata.get("at_least"), metadata.get("at_most")
    above, below = metadata.get("above"), metadata.get("below")
    return (
        (low is None or value >= low)
        and (high is None or value <= high)
        and (above is None or value > above)
        and (below is None or value < below)
    )


@dataclasses.dataclass(kw_only=True)
class Settings:
    """A block of keys."""

    def check(self) -> Iterator[tuple[str, str]]:
        """Yield (field, what is wrong with it) for relations that a range cannot express."""
        yield from ()


@dataclasses.dataclass(kw_only=True)
class Option(Settings):
    """One choice of a group; defining a subclass with a `name` registers it."""

    group: ClassVar[str] = ""
    name: ClassVar[str] = ""
    builds: ClassVar[str] = ""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "name" not in cls.__dict__:
            return
        options = OPTIONS.setdefault(cls.group, {})
        there = options.get(cls.name, cls)
        # the same class is defined again by @dataclass(slots=True), or by a cell of a notebook that runs again
        if (there.__module__, there.__qualname__) != (cls.__module__, cls.__qualname__):
            message = f"{cls.__module__}.{cls.__qualname__} takes the name of {there.__module__}.{there.__qualname__}"
            raise ConfigError([Problem(f"{cls.group}={cls.name}", f"{message}; give it another name")])
        if not cls.builds:
            message = f'{cls.__module__}.{cls.__qualname__} needs a line builds = "module:Class"'
            raise ConfigError([Problem(f"{cls.group}={cls.name}", message)])
        options[cls.name] = cls


def built_class(option: Option | type[Option]) -> Any:
    """Return what an option builds, imported now."""
    module, _, attribute = option.builds.partition(":")
    return getattr(import_module(module), attribute)


def build(config: Option, **runtime: Any) -> Any:
    """Return the object that a config describes: its `builds` class called with (config, **runtime)."""
    return built_class(config)(config, **runtime)
