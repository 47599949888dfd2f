"""What a key means, from the one place that says so: the dataclass field and the text under it."""

import ast
import dataclasses
import inspect
import textwrap
import typing
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any

from lmexp.config.check import describe_type
from lmexp.config.compose import CONF, list_groups, unknown_key
from lmexp.config.schema import OPTIONS, Option, Settings, describe_range
from lmexp.config.train import TrainConfig
from lmexp.errors import ConfigError

WIDTH = 88


def explain(key: str | None) -> str:
    """Return what a key, a group or (None) the whole config is, as text for a terminal.

    Raises:
        ConfigError: there is no such key.
    """
    groups = list_groups()
    if key is None:
        return groups_and_options(groups)
    group, _, option = key.partition("=")
    if not option and group in groups and group not in OPTIONS:
        return _describe_group(group, groups[group])
    if option or key in OPTIONS:
        return _describe_group(group, groups.get(group, []), only=option or None)
    owners = list(_owners(key))
    if not owners:
        raise ConfigError([unknown_key(key)])
    return "\n\n".join(dict.fromkeys(_describe(key, _definer(owner, key.split(".")[-1])) for owner in owners))


def groups_and_options(groups: dict[str, list[str]] | None = None) -> str:
    """Return every group with its options, a line each."""
    return "\n\n".join(_describe_group(group, options) for group, options in (groups or list_groups()).items())


def _describe_group(group: str, options: list[str], only: str | None = None) -> str:
    shown = [option for option in options if only in (None, option)]
    width = max((len(option) for option in shown), default=0)
    lines = [f"{group}"] + [f"  {option:<{width}}  {description(group, option)}".rstrip() for option in shown]
    if only is None and group in OPTIONS:
        return "\n".join(lines)
    if only:
        path = _file(group, only)
        lines += ["", path.read_text(encoding="utf-8").rstrip()] if path else []
    return "\n".join(lines)


def description(group: str, option: str) -> str:
    """Return the one line that the file of an option begins with."""
    path = _file(group, option)
    if path is None:
        schema = OPTIONS.get(group, {}).get(option)
        return (inspect.getdoc(schema) or "").split("\n")[0] if schema else ""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("# ") and "@package" not in line:
            return line[2:].strip()
    return ""


def _file(group: str, option: str) -> Path | None:
    candidates = (root / group / f"{option}.yaml" for root in (CONF, Path.cwd() / "conf"))
    return next((path for path in candidates if path.is_file()), None)


def _owners(key: str) -> typing.Iterator[type]:
    """Yield every dataclass that has the key's last part under its first parts."""
    *parents, leaf = key.split(".")
    schemas: list[type] = [TrainConfig]
    for part in parents:
        following: list[type] = []
        for schema in schemas:
            annotation = typing.get_type_hints(schema).get(part)
            if isinstance(annotation, type) and issubclass(annotation, Option):
                following += OPTIONS[annotation.group].values()
            elif isinstance(annotation, type) and issubclass(annotation, Settings):
                following.append(annotation)
        schemas = following
    yield from (schema for schema in schemas if leaf in {field.name for field in dataclasses.fields(schema)})


def _definer(schema: type, leaf: str) -> type:
    """Return the class that wrote the field down: a base class, or the schema itself where it changes it."""
    return next(c for c in schema.__mro__ if leaf in c.__dict__.get("__annotations__", {}))


def _describe(key: str, schema: type) -> str:
    leaf = key.split(".")[-1]
    field = next(field for field in dataclasses.fields(schema) if field.name == leaf)
    annotation = typing.get_type_hints(schema)[leaf]
    limits = describe_range(field.metadata)
    head = f"{key}: {describe_type(annotation)}, default {_default(field)}" + (f", {limits}" if limits else "")
    path = Path(inspect.getsourcefile(schema) or "?")
    where = f"{path.parent.parent.name}/{path.parent.name}/{path.name}, {schema.__name__}"
    text = textwrap.fill(field_texts(schema).get(leaf, ""), WIDTH, initial_indent="  ", subsequent_indent="  ")
    return f"{head}\n{text}\n  ({where})"


def _default(field: dataclasses.Field[Any]) -> str:
    value = field.default if field.default is not dataclasses.MISSING else field.default_factory()  # type: ignore[misc]
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, Settings):
        return getattr(value, "name", "") or "a block of keys"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


@cache
def field_texts(schema: type) -> dict[str, str]:
    """Return the text under each field of a dataclass and of those it extends."""
    texts: dict[str, str] = {}
    for ancestor in reversed(schema.__mro__):
        if not dataclasses.is_dataclass(ancestor):
            continue
        body = ast.parse(textwrap.dedent(inspect.getsource(ancestor))).body[0]
        assert isinstance(body, ast.ClassDef)
        for field, text in zip(body.body, body.body[1:], strict=False):
            is_text = isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and is_text:
                texts[field.target.id] = " ".join(str(text.value.value).split())  # type: ignore[attr-defined]
    return texts

