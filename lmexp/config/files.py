"""What is wrong in the YAML files of a working folder's own conf/, said before Hydra reads them.

Hydra stops at the first mistake and speaks of its own parts. Here a file is read as it stands: is it YAML, has it the
line that gives it a schema, does it choose what there is, are its keys known. Values are left to the schema.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lmexp.config.check import did_you_mean, is_known, unknown_key
from lmexp.config.options import list_groups, own_conf, shadowed
from lmexp.config.schema import OPTIONS
from lmexp.errors import Problem


def problems_of_choice(group: str, option: Any) -> Iterator[Problem]:
    """Yield what is wrong with choosing an option: there is none of this name, or its own file is wrong."""
    groups = list_groups()
    if group in OPTIONS and not isinstance(option, str):
        yield Problem(group, f"takes one of its options: {', '.join(groups[group])}")
        return
    for name in option if isinstance(option, list) else [option]:
        if name not in groups[group]:
            yield _no_such_option(group, str(name), groups[group])
        else:
            yield from _problems_of_file(group, name, groups)


def _problems_of_file(group: str, option: str, groups: dict[str, list[str]]) -> Iterator[Problem]:
    own, file = own_conf(), f"conf/{group}/{option}.yaml"
    if own is None or not (own / group / f"{option}.yaml").is_file():
        return
    if problem := shadowed(group, option):
        yield problem
        return
    try:
        values = _read(own / group / f"{option}.yaml")
    except ValueError as error:
        yield Problem(file, str(error))
        return
    defaults = values.pop("defaults", None) or []
    if group in OPTIONS:
        problems = _schema_problems(group, defaults, groups)
    else:
        problems = _overlay_problems((own / group / f"{option}.yaml"), defaults, groups)
    prefix = f"{group}." if group in OPTIONS else ""
    for problem in (*problems, *map(unknown_key, _unknown(values, prefix))):
        yield problem if problem.key.endswith(".yaml") else Problem(file, str(problem))


def _read(path: Path) -> dict[str, Any]:
    """Return the content of a file.

    Raises:
        ValueError: it is not YAML with keys and values; says where.
    """
    try:
        values = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    except yaml.MarkedYAMLError as error:
        where = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise ValueError(f"{where}{error.problem}") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"is not UTF-8 text: {error.reason} at byte {error.start}") from None
    except (OSError, OmegaConfBaseException, yaml.YAMLError) as error:
        raise ValueError(str(error).splitlines()[0]) from None
    if not isinstance(values, dict):
        raise ValueError("must hold keys and values")
    return {str(key): value for key, value in values.items()}


def _schema_problems(group: str, defaults: list[Any], groups: dict[str, list[str]]) -> Iterator[Problem]:
    """Yield what is wrong with the line that gives an option its schema."""
    schemas = OPTIONS[group]
    bases = [str(entry) for entry in defaults if entry != "_self_"]
    if not bases:
        line = f"defaults: [/schema/{group}/{next(iter(schemas))}@_here_, _self_]"
        yield Problem("", f"needs a line that says whose keys it has: {line}; one of {', '.join(schemas)}")
    for base in bases:
        schema = re.fullmatch(rf"/schema/{group}/([^@]*)(@_here_)?", base)
        if schema and not schema[2]:
            yield Problem("", f"write {base}@_here_ in its defaults")
        elif schema and schema[1] not in schemas:
            guess = did_you_mean(schema[1], list(schemas))
            yield Problem("", f"there is no schema '{schema[1]}'{guess}; schemas: {', '.join(schemas)}")
        elif not schema and not base.startswith("/") and base not in groups[group]:
            yield _no_such_option(group, base, groups[group])


def _overlay_problems(path: Path, defaults: list[Any], groups: dict[str, list[str]]) -> Iterator[Problem]:
    """Yield what is wrong with the head of an experiment, which says where it goes and which options it takes."""
    head = re.match(r"(\s*#.*\n|\s*\n)*", path.read_text(encoding="utf-8"))
    if not head or not re.search(r"#\s*@package\s+_global_\s*$", head[0], re.MULTILINE):
        yield Problem("", "must begin with the line: # @package _global_")
    for entry in defaults:
        for key, option in entry.items() if isinstance(entry, dict) else ():
            group = str(key).removeprefix("override ").strip().removeprefix("/")
            if group.startswith("hydra/"):
                continue
            if group not in groups:
                yield Problem(group, f"there is no such group{did_you_mean(group, list(groups))}")
            elif key != f"override /{group}":
                yield Problem("", f"write 'override /{group}: {option}', not '{key}: {option}'")
            else:
                yield from problems_of_choice(group, option)


def _unknown(values: dict[str, Any], prefix: str) -> Iterator[str]:
    for key, value in values.items():
        dotted = f"{prefix}{key}"
        if dotted == "hydra":
            continue
        if not is_known(dotted):
            yield dotted
        elif isinstance(value, dict):
            yield from _unknown(value, f"{dotted}.")


def _no_such_option(group: str, option: str, options: list[str]) -> Problem:
    return Problem(group, f"has no option '{option}'{did_you_mean(option, options)}; options: {', '.join(options)}")
