"""From a command line in Hydra's syntax to a checked TrainConfig, with everything that is wrong said at once.

Hydra composes the chosen options and stops at its first error. So groups are checked against the search path before,
and the values are applied one by one after, by Hydra's own function: one composition, every problem. A user's own
`conf/` in the working folder is searched after ours.
"""

import difflib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

import hydra
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException, ValidationError

from lmexp.config.check import describe_type, dotted_keys, field_type, problems_of, stray_keys
from lmexp.config.schema import OPTIONS
from lmexp.config.train import TrainConfig
from lmexp.errors import ConfigError, Problem

CONF = next(
    folder
    for folder in (Path(__file__).parents[1] / "conf", Path(__file__).parents[2] / "conf")
    if (folder / "train.yaml").is_file()
)
"""Our presets: inside an installed package, beside it in a checkout."""

MAX_CHECKED_TRIALS = 64


def compose(command: str = "train", overrides: Sequence[str] = ()) -> TrainConfig:
    """Return the checked config of a command line such as ["model=lstm", "seed=1"].

    Raises:
        ConfigError: with every problem, each with its dotted key and what is allowed.
    """
    with _search_path():
        parsed, problems = _parse(overrides)
        config, more = _compose(command, parsed)
    if problems + more or config is None:
        raise ConfigError(problems + more)
    return config


def compose_trials(command: str, overrides: Sequence[str]) -> list[TrainConfig]:
    """Return the checked configs of a sweep (`-m`), of the first ones where there are very many.

    Raises:
        ConfigError: with every problem of every trial, each once.
    """
    with _search_path():
        parsed, problems = _parse(overrides)
        trials, found = [], dict.fromkeys(problems)
        for choice, _ in zip(product(*(_choices(o, found) for o in parsed)), range(MAX_CHECKED_TRIALS), strict=False):
            single, _ = _parse(choice)
            config, problems = _compose(command, single)
            found.update(dict.fromkeys(problems))
            if config is not None:
                trials.append(config)
    if found:
        raise ConfigError(list(found))
    return trials


def hydra_searchpath(overrides: Sequence[str]) -> list[str]:
    """Return the override that lets Hydra find the working folder's own conf/, if there is one."""
    own = Path.cwd() / "conf"
    if any(o.startswith("hydra.searchpath=") for o in overrides) or not own.is_dir() or own.samefile(CONF):
        return []
    return [f"hydra.searchpath=[file://{own}]"]


def register_schemas() -> None:
    """Tell Hydra the schema of every option, also of plug-ins loaded since."""
    store = ConfigStore.instance()
    root = OmegaConf.structured(TrainConfig)
    for group, options in OPTIONS.items():
        root[group] = "???"
        for name, schema in options.items():
            store.store(group=f"schema/{group}", name=name, node=schema)
            if _is_foreign(schema):
                store.store(group=group, name=name, node=schema)
    store.store(group="schema", name="train", node=root)


def list_groups() -> dict[str, list[str]]:
    """Return the groups that can be chosen from, with their options, ours and the working folder's."""
    return _groups()


@contextmanager
def _search_path() -> Iterator[None]:
    register_schemas()
    with hydra.initialize_config_dir(version_base="1.3", config_dir=str(CONF), job_name="lmexp"):
        yield


def _groups() -> dict[str, list[str]]:
    """Return the options of each group: our files, the working folder's, and the classes of plug-ins."""
    own = [Path(o[len("hydra.searchpath=[file://") : -1]) for o in hydra_searchpath([])]
    groups: dict[str, set[str]] = {group: set() for group in [*OPTIONS, "experiment", "debug"]}
    for path in (path for root in (CONF, *own) for path in root.glob("*/*.yaml")):
        groups.setdefault(path.parent.name, set()).add(path.stem)
    for group, options in OPTIONS.items():
        groups[group] |= {name for name, schema in options.items() if _is_foreign(schema)}
    return {group: sorted(options) for group, options in groups.items()}


def _is_foreign(schema: type) -> bool:
    return not schema.__module__.startswith("lmexp.")


def _parse(overrides: Sequence[str]) -> tuple[list[Override], list[Problem]]:
    parser, parsed, problems = OverridesParser.create(), [], []
    for text in overrides:
        try:
            parsed += parser.parse_overrides([text])
        except HydraException:
            problems.append(Problem(text, "is not of the form key=value; quote what has spaces: 'key=\"a b\"'"))
    return parsed, problems


def _choices(override: Override, problems: dict[Problem, None]) -> list[str]:
    """Return an override for each value of a sweep over it, itself when it is none."""
    if override.is_discrete_sweep():
        return [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]
    if override.is_sweep_override():
        problems[Problem(override.input_line, "the basic sweeper takes lists and range(), not intervals")] = None
        return []
    return [override.input_line]


def _compose(command: str, overrides: list[Override]) -> tuple[TrainConfig | None, list[Problem]]:
    problems, chosen, values = [], [], []
    own_search_path = any(o.key_or_group == "hydra.searchpath" for o in overrides)
    for override in overrides:
        if override.is_sweep_override():
            message = "is a sweep over several values: add -m, or write a list as [a,b]"
            problems.append(Problem(override.key_or_group, message))
        elif override.key_or_group.startswith("hydra.") or override.key_or_group.startswith("hydra/"):
            chosen.append(override)
        elif override.key_or_group in _groups():
            problem = None if own_search_path else _wrong_option(override)
            problems += [problem] if problem else []
            chosen += [] if problem else [override]
        else:
            values.append(override)

    composed = _compose_options(command, chosen, problems)
    if composed is None:
        return None, problems
    for override in values:
        try:
            ConfigLoaderImpl._apply_overrides_to_config([override], composed)
        except (HydraException, OmegaConfBaseException) as error:
            problems.append(_explain_value(override, error.__cause__ or error))
    return _checked(composed, problems), problems


def _wrong_option(override: Override) -> Problem | None:
    group, option = override.key_or_group, override.value()
    options = _groups()[group]
    if option is None or override.is_delete() or not isinstance(option, str) or option in options:
        return None
    return Problem(group, f"has no option '{option}'{_did_you_mean(option, options)}; options: {', '.join(options)}")


def _compose_options(command: str, chosen: list[Override], problems: list[Problem]) -> DictConfig | None:
    """Let Hydra compose the chosen options; leave out, and remember, those whose files do not fit the schema."""
    while True:
        lines = [o.input_line for o in chosen]
        try:
            return hydra.compose(command, overrides=hydra_searchpath(lines) + lines)
        except Exception as error:  # a YAML file can be wrong in as many ways as there are parsers
            problems.append(_explain_file(error))
            where = re.search(r"In '([^']+)'", str(error))
            culprits = [o for o in chosen if where and f"{o.key_or_group}/{o.value()}" == where[1]]
            culprits = culprits or [o for o in chosen if o.key_or_group in str(error)]
            if not culprits:
                return None
            chosen = [o for o in chosen if o not in culprits]


def _checked(composed: DictConfig, problems: list[Problem]) -> TrainConfig | None:
    strays = list(stray_keys(composed))
    problems += [unknown_key(key) for key in strays]
    try:
        missing = sorted(str(key) for key in OmegaConf.missing_keys(composed))
        problems += [Problem(key, f"choose one of {', '.join(_groups().get(key, []))}") for key in missing]
        if strays or missing:
            return None
        config: Any = OmegaConf.to_object(composed)
    except OmegaConfBaseException as error:
        problems.append(Problem(error.full_key or "", str(error).splitlines()[0]))
        return None
    problems += problems_of(config)
    return config


def _explain_value(override: Override, error: BaseException) -> Problem:
    key = getattr(error, "full_key", None) or override.key_or_group
    if isinstance(error, ValidationError):
        try:
            wanted = describe_type(field_type(key, _chosen_class))
        except KeyError:
            wanted = str(error).splitlines()[0]
        return Problem(key, f"must be {wanted}, not {override.get_value_element_as_str()}")
    if "in struct" in str(error) or "not in '" in str(error) or override.is_delete():
        if key.startswith("trainer.extra."):
            return Problem(key, f"a key of your own needs a plus sign: +{override.input_line}")
        return unknown_key(key)
    return Problem(key, str(error).splitlines()[0])


def _explain_file(error: Exception) -> Problem:
    """Say what is wrong in a YAML file, from the text of Hydra's error."""
    text = str(error)
    where = re.search(r"In '([^']+)'", text)
    file = f"conf/{where[1]}.yaml" if where else ""
    key = re.search(r"full_key: (\S+)", text)
    if key and " not in '" in text:
        problem = unknown_key(key[1])
        return Problem(file or problem.key, f"{problem.key}: {problem.message}" if file else problem.message)
    lines = [line for line in text.splitlines() if line.strip()]
    detail = next((line for line in lines if not line.startswith("In '")), lines[0] if lines else repr(error))
    return Problem(file, f"{key[1]}: {detail.strip()}" if key else detail.strip())


def _chosen_class(group: str) -> list[type]:
    return list(OPTIONS.get(group, {}).values())


def unknown_key(key: str) -> Problem:
    parent, _, leaf = key.rpartition(".")
    known = list(dotted_keys())
    leaves = {k.rpartition(".")[2]: k for k in known if k.rpartition(".")[0] == parent}
    elsewhere = [k for k in known if k.rpartition(".")[2] == leaf]
    close = difflib.get_close_matches(leaf, leaves, 1, 0.6)
    guess = leaves[close[0]] if close else elsewhere[0] if elsewhere else None
    return Problem(key, "there is no such key" + (f"; did you mean {guess}?" if guess else ""))


def _did_you_mean(word: str, words: Sequence[str]) -> str:
    guess = difflib.get_close_matches(word, words, 1, 0.6)
    return f"; did you mean {guess[0]}?" if guess else ""
