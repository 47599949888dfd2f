"""Which options each group has: files of ours, files of the working folder's own `conf/`, and classes of plug-ins."""

import dataclasses
import filecmp
import inspect
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import yaml
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from lmexp.config.roots import ROOTS
from lmexp.config.schema import OPTIONS
from lmexp.errors import ConfigError, Problem

CONF = next(
    folder
    for folder in (Path(__file__).parents[1] / "conf", Path(__file__).parents[2] / "conf")
    if (folder / "train.yaml").is_file()
)
"""Our presets: inside an installed package, beside it in a checkout."""

_stored: dict[tuple[str, str], type] = {}


def own_conf() -> Path | None:
    """Return the working folder's own conf/, None when it has none or it is ours."""
    own = Path.cwd() / "conf"
    return own if own.is_dir() and not own.samefile(CONF) else None


@cache
def default_options(command: str | None = None) -> dict[str, str | None]:
    """Return the option that each group of a command, or of all, starts from, None for none, in the root's order."""
    if command is None:
        return {group: option for root in ROOTS for group, option in default_options(root).items()}
    root = yaml.safe_load((CONF / f"{command}.yaml").read_text(encoding="utf-8"))
    groups = (entry for entry in root["defaults"] if isinstance(entry, dict))
    return {group: option for entry in groups for group, option in entry.items() if "override" not in group}


def list_groups(command: str | None = None) -> dict[str, list[str]]:
    """Return the groups that can be chosen from, each with its options, the default first."""
    roots = [CONF, own] if (own := own_conf()) else [CONF]
    groups = {}
    for group, default in default_options(command).items():
        files = (path.relative_to(root / group) for root in roots for path in (root / group).rglob("*.yaml"))
        options = {file.with_suffix("").as_posix() for file in files}
        options |= {name for name, schema in OPTIONS.get(group, {}).items() if is_foreign(schema)}
        groups[group] = sorted(options, key=lambda option: (option != default, option))
    return groups


def option_file(group: str, option: str) -> Path | None:
    """Return the YAML file of an option, None for a class of a plug-in."""
    roots = [CONF, own] if (own := own_conf()) else [CONF]
    return next((path for root in roots if (path := root / group / f"{option}.yaml").is_file()), None)


def description(group: str, option: str) -> str:
    """Return the one line that the file of an option begins with."""
    path = option_file(group, option)
    if path is None:
        schema = OPTIONS.get(group, {}).get(option)
        return (inspect.getdoc(schema) or "").split("\n")[0] if schema else ""
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith("# ") and "@package" not in line:
            return line[2:].strip()
    return ""


def shadowed(group: str, option: str) -> Problem | None:
    """Return a problem when the working folder has another file for an option of ours: only ours would be read."""
    own, name = own_conf(), f"{group}/{option}.yaml"
    if not own or not (own / name).is_file() or not (CONF / name).is_file():
        return None
    if filecmp.cmp(own / name, CONF / name, shallow=False):  # another checkout of lmexp
        return None
    return Problem(f"conf/{name}", f"lmexp has an option {group}={option} of its own; give yours another name")


def is_foreign(schema: type) -> bool:
    """Return whether an option comes from a plug-in, and so has no file in our conf/."""
    return not schema.__module__.startswith("lmexp.")


def register_schemas() -> None:
    """Tell Hydra the schema of every option, also of plug-ins loaded since.

    Raises:
        ConfigError: a plug-in's class is no dataclass, or has a field without a type that Hydra knows.
    """
    store = ConfigStore.instance()
    for group, options in OPTIONS.items():
        for name, schema in options.items():
            if _stored.get((group, name)) is schema:
                continue
            if "__dataclass_fields__" not in vars(schema):
                raise ConfigError([Problem(f"{group}={name}", f"{schema.__name__} needs @dataclass(kw_only=True)")])
            store.store(group=f"schema/{group}", name=name, node=schema)
            if is_foreign(schema):
                store.store(group=group, name=name, node=schema)
            _stored[group, name] = schema
    for command, config in ROOTS.items():
        if ("", command) in _stored:
            continue
        root = OmegaConf.structured(config)
        for field in dataclasses.fields(config):
            if field.name in OPTIONS:
                root[field.name] = "???"
        store.store(group="schema", name=command, node=root)
        _stored["", command] = config


def forget_foreign_schemas() -> None:
    """Take what plug-ins have registered out of Hydra's store: it travels to processes that cannot import them yet.

    `register_schemas` puts it back.
    """
    repository = ConfigStore.instance().repo
    for (group, name), schema in list(_stored.items()):
        if group and is_foreign(schema):
            for there in (repository["schema"][group], repository.get(group, {})):
                there.pop(f"{name}.yaml", None)
            del _stored[group, name]


def hydra_searchpath(overrides: Sequence[str] = ()) -> list[str]:
    """Return the override that lets Hydra find the working folder's own conf/, if there is one."""
    own = own_conf()
    if own is None or any(override.startswith("hydra.searchpath=") for override in overrides):
        return []
    quoted = str(own).replace("\\", "\\\\").replace("'", "\\'")
    return [f"hydra.searchpath=['file://{quoted}']"]
