"""What a key means, from the one place that says so: the dataclass field and the text under it."""

import ast
import dataclasses
import inspect
import re
import textwrap
from collections.abc import Iterator
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any

from lmexp.config.check import describe_type, did_you_mean, unknown_key
from lmexp.config.options import default_options, description, list_groups, option_file
from lmexp.config.roots import ROOTS
from lmexp.config.schema import OPTIONS, Option, Settings, describe_range, types_of
from lmexp.config.sweep import SweepConfig
from lmexp.errors import ConfigError, Problem

WIDTH = 88

OVERLAYS = {
    "experiment": "Whole recipes: options and values that go together.",
    "debug": "Small runs for finding out what is wrong.",
}


def explain(key: str | None) -> str:
    """Return what a key, a group or (None) the whole config is, as text for a terminal.

    Raises:
        ConfigError: there is no such key.
    """
    groups = list_groups()
    if key is None:
        return groups_and_options()
    name, _, option = key.partition("=")
    if name == "sweep":
        return "\n\n".join(explain(f"sweep.{field.name}") for field in dataclasses.fields(SweepConfig))
    if name in groups:
        return _describe_option(name, option, groups[name]) if option else _describe_group(name, groups[name])
    schemas = list(_schemas_with(name))
    if not schemas:
        raise ConfigError([unknown_key(name)])
    return "\n\n".join(dict.fromkeys(_describe(name, _definer(schema, name.split(".")[-1])) for schema in schemas))


def text_of(key: str) -> str:
    """Return the first sentence of the text under a key, "" for a key that no config has."""
    for schema in _schemas_with(key):
        text = field_texts(_definer(schema, key.split(".")[-1])).get(key.split(".")[-1], "")
        return re.split(r"(?<=[.;])\s", " ".join(text.split()))[0].rstrip(".;")
    return ""


def groups_and_options(command: str | None = None) -> str:
    """Return every group of a command, or of all, with its options, a line each."""
    return "\n\n".join(_describe_group(group, options) for group, options in list_groups(command).items())


def group_text(group: str) -> str:
    """Return the sentence that says what a group is for."""
    texts = {key: text for root in ROOTS.values() for key, text in field_texts(root).items()}
    return OVERLAYS.get(group) or texts[group]


def _describe_group(group: str, options: list[str]) -> str:
    default = default_options()[group]
    labels = {option: f"{option} (default)" if option == default else option for option in options}
    width = max(map(len, labels.values()), default=0)
    lines = [f"  {label:<{width}}  {description(group, option)}".rstrip() for option, label in labels.items()]
    return "\n".join([f"{group}: {group_text(group)}", *lines])


def _describe_option(group: str, option: str, options: list[str]) -> str:
    """Return the file of an option as it is; it begins with its description."""
    if option not in options:
        guess = did_you_mean(option, options)
        raise ConfigError([Problem(group, f"has no option '{option}'{guess}; options: {', '.join(options)}")])
    path = option_file(group, option)
    if path is None:
        return f"{group}={option}\n  {description(group, option)}\n  ({_home(OPTIONS[group][option])})"
    return f"{group}={option}  (conf/{group}/{option}.yaml)\n\n{path.read_text(encoding='utf-8').rstrip()}"


def _schemas_with(key: str) -> Iterator[type]:
    """Yield every dataclass that has the key's last part under its first parts."""
    *parents, leaf = key.split(".")
    is_of_sweep = parents[:1] == ["sweep"]
    schemas: list[type] = [SweepConfig] if is_of_sweep else list(ROOTS.values())
    for part in parents[is_of_sweep:]:
        following: list[type] = []
        for schema in schemas:
            annotation = types_of(schema).get(part)
            if isinstance(annotation, type) and issubclass(annotation, Option):
                following += OPTIONS[annotation.group].values()
            elif isinstance(annotation, type) and issubclass(annotation, Settings):
                following.append(annotation)
        schemas = following
    yield from (schema for schema in schemas if leaf in {field.name for field in dataclasses.fields(schema)})


def _definer(schema: type, leaf: str) -> type:
    """Return the class that wrote the field down: a base class, or the schema itself where it changes it."""
    return next(c for c in schema.__mro__ if leaf in inspect.get_annotations(c))


def _describe(key: str, schema: type) -> str:
    leaf = key.split(".")[-1]
    field = next(field for field in dataclasses.fields(schema) if field.name == leaf)
    annotation = types_of(schema)[leaf]
    limits = describe_range(field.metadata)
    head = f"{key}: {describe_type(annotation)}"
    if dataclasses.is_dataclass(annotation):
        head += ": " + ", ".join(f"{key}.{inner.name}" for inner in dataclasses.fields(annotation))
    else:
        head += f", default {describe_default(field)}" + (f", {limits}" if limits else "")
    text = field_texts(schema).get(leaf, "")
    lines = textwrap.wrap(text, WIDTH, initial_indent="  ", subsequent_indent="  ")
    return "\n".join([head, *lines, f"  ({_home(schema)})"])


def _home(schema: type) -> str:
    """Return where a class is written down."""
    path = source_file(schema)
    return f"{path}, {schema.__name__}" if path else f"{schema.__module__}, {schema.__name__}"


def source_file(schema: type) -> str | None:
    """Return the file of a class, ours as lmexp/config/model.py; None for one that was typed in."""
    try:
        path = Path(inspect.getsourcefile(schema) or "")
    except (TypeError, OSError):
        return None
    root = Path(__file__).parents[2]
    return str(path.relative_to(root)) if path.is_relative_to(root / "lmexp") else str(path)


def describe_default(field: dataclasses.Field[Any]) -> str:
    """Return the default of a field as one would write it in YAML."""
    value = field.default if field.default is not dataclasses.MISSING else field.default_factory()  # type: ignore[operator]
    if isinstance(value, Enum):
        return value.name
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


@cache
def field_texts(schema: type) -> dict[str, str]:
    """Return the text under each field of a dataclass and of those it extends."""
    texts: dict[str, str] = {}
    for ancestor in reversed(schema.__mro__):
        if not dataclasses.is_dataclass(ancestor):
            continue
        try:
            body = ast.parse(textwrap.dedent(inspect.getsource(ancestor))).body[0]
        except (OSError, TypeError):  # a class that was typed in has no source
            continue
        assert isinstance(body, ast.ClassDef)
        for field, text in zip(body.body, body.body[1:], strict=False):
            is_text = isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and is_text:
                texts[field.target.id] = " ".join(str(text.value.value).split())  # type: ignore[attr-defined]
    return texts
