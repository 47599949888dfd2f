"""A config as YAML in a run folder and back, and the hash that names the folder.

Reading builds dataclasses from plain values; nothing is imported, resolved or executed, so the config of a stranger's
run is data.
"""

import dataclasses
import hashlib
import json
import typing
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from lmexp.config.check import describe_type, union_parts
from lmexp.config.schema import OPTIONS, Option, Settings, types_of
from lmexp.config.train import TrainConfig
from lmexp.errors import RunError


def to_dict(config: Settings, *, identity_only: bool = False) -> dict[str, Any]:
    """Return the config as plain values; each option of a group carries its name."""
    result: dict[str, Any] = {"name": type(config).name} if isinstance(config, Option) else {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if identity_only and not field.metadata.get("identity", True):
            continue
        if isinstance(value, Settings):
            result[field.name] = to_dict(value, identity_only=identity_only)
        else:
            result[field.name] = _plain(value)
    return result


def _plain(value: Any) -> Any:
    """Return a value as YAML and JSON have it."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value.name if isinstance(value, Enum) else value


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested keys as dotted ones.

    Example:
        >>> flat({"seed": 0, "model": {"name": "lstm"}})
        {'seed': 0, 'model.name': 'lstm'}
    """
    result: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict) and value:
            result |= flat(value, f"{prefix}{key}.")
        else:
            result[f"{prefix}{key}"] = value
    return result


def identity_of(values: dict[str, Any], schema: type = TrainConfig) -> dict[str, Any]:
    """Return the part of a saved config that makes the experiment; keys that this lmexp does not know belong to it."""
    fields, hints = _fields(schema), types_of(schema)
    result = {}
    for key, value in values.items():
        if key in fields and not fields[key].metadata.get("identity", True):
            continue
        inner = hints.get(key)
        if isinstance(value, dict) and isinstance(inner, type) and issubclass(inner, Settings):
            options = OPTIONS.get(inner.group, {}) if issubclass(inner, Option) else {}
            name = value.get("name")
            result[key] = identity_of(value, options.get(name, inner) if isinstance(name, str) else inner)
        else:
            result[key] = value
    return result


def is_identity(key: str, config: dict[str, Any]) -> bool:
    """Return whether a dotted key of a flat config makes the experiment."""
    schema: type = TrainConfig
    path: list[str] = []
    for part in key.split("."):
        fields, hints = _fields(schema), types_of(schema)
        path.append(part)
        if part in fields and not fields[part].metadata.get("identity", True):
            return False
        inner = hints.get(part)
        if not (isinstance(inner, type) and issubclass(inner, Settings)):
            return True
        options = OPTIONS.get(inner.group, {}) if issubclass(inner, Option) else {}
        schema = options.get(str(config.get(".".join([*path, "name"]))), inner)
    return True


def to_yaml(config: Settings) -> str:
    """Return the whole config as YAML."""
    return yaml.safe_dump(to_dict(config), sort_keys=False, allow_unicode=True, width=1000)


def from_yaml(path: Path) -> TrainConfig:
    """Return the config that `to_yaml` wrote.

    Raises:
        RunError: the file cannot be read, or holds what this lmexp does not know.
    """
    try:
        with open(path, encoding="utf-8") as file:
            values = yaml.safe_load(file)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise RunError(f"{path} cannot be read: {error}") from None
    return _from_dict(TrainConfig, values, str(path), "")


def option_from_dict(options: dict[str, type[Option]], values: Any, path: str) -> Any:
    """Return the option that `to_dict` wrote, found among `options` by its name.

    Raises:
        RunError: no option has this name, or it has other keys.
    """
    return _from_dict(next(iter(options.values())), values, path, "", options)


def identity_hash(config: Settings, **more: Any) -> str:
    """Return 12 hexadecimal digits that are equal for equal experiments (and, through `more`, equal data)."""
    text = json.dumps({"config": to_dict(config, identity_only=True), **more}, sort_keys=True, ensure_ascii=False)
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def differences(a: Settings, b: Settings, *, identity_only: bool = False) -> dict[str, tuple[Any, Any]]:
    """Return the dotted keys in which two configs differ, with both values."""
    one, other = (to_dict(config, identity_only=identity_only) for config in (a, b))
    return dict(_differences(one, other, ""))


@cache
def _fields(schema: type) -> dict[str, dataclasses.Field[Any]]:
    return {field.name: field for field in dataclasses.fields(schema)}


def _differences(a: dict[str, Any], b: dict[str, Any], prefix: str) -> typing.Iterator[tuple[str, tuple[Any, Any]]]:
    for key in dict.fromkeys([*a, *b]):
        one, other = a.get(key), b.get(key)
        if isinstance(one, dict) and isinstance(other, dict):
            yield from _differences(one, other, f"{prefix}{key}.")
        elif one != other:
            yield f"{prefix}{key}", (one, other)


def _from_dict(
    schema: type[Settings], values: Any, path: str, prefix: str, options: dict[str, type[Option]] | None = None
) -> Any:
    if not isinstance(values, dict):
        raise RunError(f"{path}: {prefix.rstrip('.') or 'the file'} must hold keys and values")
    values = dict(values)
    if issubclass(schema, Option):
        options = options or OPTIONS[schema.group]
        name = values.pop("name", None)
        if not isinstance(name, str) or name not in options:
            hint = f"this lmexp has {', '.join(options)}; if it comes from a plug-in, name it with --plugin"
            raise RunError(f"{path}: {prefix}name: no {schema.group} is called {name!r}; {hint}")
        schema = options[name]
    hints, fields = types_of(typing.cast(type, schema)), {field.name for field in dataclasses.fields(schema)}
    for key in values:
        if key not in fields:
            raise RunError(f"{path}: {prefix}{key}: {schema.__name__} has no such key")
    return schema(**{key: _from_value(hints[key], value, path, f"{prefix}{key}") for key, value in values.items()})


def _from_value(annotation: Any, value: Any, path: str, key: str) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return _from_dict(annotation, value, path, f"{key}.")
    for part in union_parts(annotation):
        origin, arguments = typing.get_origin(part), typing.get_args(part)
        if part is typing.Any:
            return value
        if isinstance(part, type) and issubclass(part, Enum) and isinstance(value, str) and value in part.__members__:
            return part[value]
        if part is float and isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
        if origin is list and isinstance(value, list):
            return [_from_value(arguments[0], item, path, f"{key}[{number}]") for number, item in enumerate(value)]
        if origin is dict and isinstance(value, dict) and all(isinstance(name, str) for name in value):
            return {name: _from_value(arguments[1], item, path, f"{key}.{name}") for name, item in value.items()}
        if origin is None and isinstance(value, part) and not (part is int and isinstance(value, bool)):
            return value
    raise RunError(f"{path}: {key}: must be {describe_type(annotation)}, not {value!r}")
