"""From a command line in Hydra's syntax to a checked TrainConfig, with everything that is wrong said at once.

Hydra composes the chosen options and stops at its first error. So choices and the user's own files are checked before,
and the values are applied one by one after, by Hydra's own function: one composition, every problem. A user's own
`conf/` in the working folder is searched after ours.
"""

import copy
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from itertools import islice, product
from pathlib import Path
from typing import Any

import hydra
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, IntervalSweep, Override
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException, ValidationError

from lmexp.config import extend
from lmexp.config.check import FREE, describe_type, field_type, is_known, owners, problems_of, stray_keys, unknown_key
from lmexp.config.files import problems_of_choice
from lmexp.config.options import CONF as CONF
from lmexp.config.options import default_options, list_groups, shadowed
from lmexp.config.options import forget_foreign_schemas as forget_foreign_schemas
from lmexp.config.options import hydra_searchpath as hydra_searchpath
from lmexp.config.options import register_schemas as register_schemas
from lmexp.config.roots import ROOTS
from lmexp.config.schema import OPTIONS
from lmexp.config.train import TrainConfig
from lmexp.errors import ConfigError, Problem

MAX_CHECKED_TRIALS = 64

Memo = dict[tuple[str, ...], tuple[DictConfig | None, list[Problem]]]
"""Compositions of chosen options, with what was wrong: trials that differ in values only share one."""


def compose(command: str = "train", overrides: Sequence[str] = (), *, memo: Memo | None = None) -> TrainConfig:
    """Return the checked config of a command line such as ["model=lstm", "seed=1"].

    With `resume=FOLDER` it is the config of that run, in which only a few keys may change; with `init_from=FOLDER` the
    model and the tokenizer are those of that run.

    Raises:
        ConfigError: with every problem, each with its dotted key and what is allowed.
    """
    with _search_path():
        parsed, problems = parse(extend.with_source(overrides))
        parent = extend.parent_of(parsed)
        config, more = (
            _compose(command, parsed, {} if memo is None else memo)
            if parent is None
            else _compose_longer(parent, parsed)
        )
    if problems + more or config is None:
        raise ConfigError(problems + more)
    return config


def compose_trials(
    command: str,
    overrides: Sequence[str],
    at_most: int = MAX_CHECKED_TRIALS,
    *,
    search: bool = False,
    keep: Callable[[list[str]], list[str]] = list,
) -> list[TrainConfig]:
    """Return the checked configs of a sweep (`-m`); of more than `at_most`, those that show the most values.

    Of an interval, which only a `search` takes, both ends are checked. `keep` says which overrides of a trial count.

    Raises:
        ConfigError: with every problem of every trial, each once.
    """
    memo: Memo = {}
    trials: list[TrainConfig] = []
    with _search_path():
        parsed, problems = parse(overrides)
        found = dict.fromkeys(problems)
        choices = [values for override in parsed if (values := _choices(override, found, search))]
        for choice in islice(_trials(choices), at_most):
            of_trial = parse(keep(choice))[0]
            parent = extend.parent_of(of_trial)
            composed = _compose(command, of_trial, memo) if parent is None else _compose_longer(parent, of_trial)
            config, problems = composed
            found.update(dict.fromkeys(problems))
            trials += [config] if config is not None else []
    if found:
        raise ConfigError(list(found))
    return trials


@contextmanager
def _search_path() -> Iterator[None]:
    register_schemas()
    with hydra.initialize_config_dir(version_base="1.3", config_dir=str(CONF), job_name="lmexp"):
        yield


def parse(overrides: Sequence[str]) -> tuple[list[Override], list[Problem]]:
    parser, parsed, problems = OverridesParser.create(), [], []
    for text in overrides:
        try:
            parsed += parser.parse_overrides([text])
        except HydraException:
            problems.append(Problem(text, "is not of the form key=value; quote what has spaces: 'key=\"a b\"'"))
    return parsed, problems


def hydra_settings(overrides: Sequence[str]) -> DictConfig:
    """Return what Hydra's own keys come to: its sweeper and its launcher.

    Raises:
        ConfigError: a key or an option of Hydra's that is not there.
    """
    with _search_path():
        try:
            composed = hydra.compose("train", hydra_searchpath(overrides) + list(overrides), return_hydra_config=True)
        except Exception as error:  # as in _compose_options
            raise ConfigError([_explain_file(error)]) from None
    with open_dict(composed):
        settings: DictConfig = composed.pop("hydra")
    return settings


def values_of(override: Override) -> list[str]:
    """Return the values of a list, range() or glob() as a command line has them, one for a single value."""
    if isinstance(glob := override.value(), Glob):
        return glob.filter(list_groups().get(override.key_or_group, []))
    if override.is_discrete_sweep():
        return list(override.sweep_string_iterator())
    return [override.get_value_element_as_str()]


def _choices(override: Override, problems: dict[Problem, None], search: bool) -> list[str]:
    """Return an override for each value of a sweep over it, itself when it is none."""
    key = override.get_key_element()
    if isinstance(interval := override.value(), IntervalSweep):
        if not search:
            problems[Problem(key, "an interval is searched: hydra/sweeper=optuna; a grid takes lists and range()")] = (
                None
            )
            return []
        if not interval.start < interval.end:  # type: ignore[operator]
            problems[Problem(key, f"interval({interval.start},{interval.end}) is empty")] = None
            return []
        return [f"{key}={value}" for value in (interval.start, interval.end)]
    if not override.is_sweep_override():
        return [text_of(override)]
    values = values_of(override)
    if not values:
        problems[Problem(key, f"{text_of(override).partition('=')[2]} is empty")] = None
    return [f"{key}={value}" for value in values]


def _trials(choices: list[list[str]]) -> Iterator[list[str]]:
    """Yield trials, each once: first those that differ from the first one in a single value, so that none is missed."""
    first = [values[0] for values in choices]
    singles = [[*first[:i], value, *first[i + 1 :]] for i, values in enumerate(choices) for value in values[1:]]
    yield from (first, *singles)
    yield from (list(trial) for trial in product(*choices) if sum(map(str.__ne__, trial, first)) > 1)


def _compose(command: str, overrides: list[Override], memo: Memo) -> tuple[TrainConfig | None, list[Problem]]:
    chosen, values, problems = _sort_out(overrides, command)
    key = tuple(map(text_of, chosen))
    if key not in memo:
        memo[key] = _compose_options(command, chosen)
    composed, in_options = copy.deepcopy(memo[key])
    problems += in_options
    if composed is None:
        return None, problems
    misplaced = [problem for override in values if (problem := _apply(override, composed))]
    given = {override.key_or_group for override in values}
    _prefer_steps(given, composed)
    config, more = _checked(composed)
    if problems:  # an option was left out, so that other keys are missing too: keep to what the command line is about
        misplaced = [p for p in misplaced if not owners(p.key) or p != unknown_key(p.key)]
        more = [p for p in more if p.key in given]
    return config, problems + misplaced + more


def _compose_longer(parent: Path, overrides: list[Override]) -> tuple[TrainConfig | None, list[Problem]]:
    problems, composed = extend.refuse_options(overrides), extend.config_of(parent)
    refused = {problem.key for problem in problems}
    values = [override for override in overrides if override.key_or_group not in refused]
    problems += [problem for override in values if (problem := _apply(override, composed))]
    _prefer_steps({override.key_or_group for override in values}, composed)
    config, more = _checked(composed)
    if config is not None:
        more += extend.refuse_changes(parent, config)
    return config, problems + more


def _prefer_steps(given: set[str], composed: DictConfig) -> None:
    """Let the steps of a command line count where a recipe says epochs."""
    if "trainer.max_steps" in given and "trainer.max_epochs" not in given:
        composed.trainer.max_epochs = None


def _sort_out(
    overrides: list[Override], command: str = "train"
) -> tuple[list[Override], list[Override], list[Problem]]:
    """Return the overrides that choose an option, those that give a value, and what is wrong with them."""
    groups, problems = default_options(command), []
    chosen: list[Override] = []
    values: list[Override] = []
    own_search_path = any(override.key_or_group == "hydra.searchpath" for override in overrides)
    for override in overrides:
        key = override.key_or_group
        if other := _other_command(key, command):
            problems.append(Problem(key, f"is a key of lmexp {other}"))
        elif override.is_sweep_override():
            problems.append(Problem(key, "is a sweep over several values: add -m, or write a list as [a,b]"))
        elif key.startswith(("hydra.", "hydra/")):
            chosen.append(override)
        elif override.is_delete() and not key.startswith(FREE):
            problems.append(Problem(key, "is part of every run; ~ cannot take it away"))
        elif key not in groups or isinstance(override.value(), dict):
            values.append(override)
        elif override.package is not None or override.is_add() or override.is_force_add():
            problems.append(Problem(override.get_key_element(), f"write {key}={override.get_value_element_as_str()}"))
        elif override.value() is None and key not in OPTIONS:
            chosen = [o for o in chosen if o.key_or_group != key]
        elif wrong := [] if own_search_path else list(problems_of_choice(key, override.value())):
            problems += wrong
        else:
            chosen.append(override)
    return chosen, values, problems


def _other_command(key: str, command: str) -> str | None:
    """Return the command that has a key which this one does not have."""
    first = key.partition(".")[0]
    keys = {name: {*default_options(name), *(field.name for field in fields(root))} for name, root in ROOTS.items()}
    owners = [name for name in keys if first in keys[name]]
    return owners[0] if owners and command not in owners else None


def _compose_options(command: str, chosen: list[Override]) -> tuple[DictConfig | None, list[Problem]]:
    """Let Hydra compose the chosen options; leave out, and report, those that do not fit the schema."""
    problems: list[Problem] = []
    while True:
        lines = list(map(text_of, chosen))
        try:
            composed = hydra.compose(command, hydra_searchpath(lines) + lines, return_hydra_config=True)
        except Exception as error:  # a YAML file can be wrong in as many ways as there are parsers
            problems.append(_explain_file(error))
            where = re.search(r"In '([^']+)'", str(error))
            culprits = [o for o in chosen if where and f"{o.key_or_group}/{o.value()}" == where[1]]
            culprits = culprits or [o for o in chosen if o.key_or_group in str(error)]
            if not culprits:
                return None, problems
            chosen = [o for o in chosen if o not in culprits]
            continue
        with open_dict(composed):
            choices = composed.pop("hydra").runtime.choices
        pairs = ((group, option) for group, option in choices.items() if group in default_options())
        return composed, problems + [p for group, option in pairs if (p := shadowed(group, str(option)))]


def _apply(override: Override, composed: DictConfig) -> Problem | None:
    """Put a value in its place, or return why it cannot be put there."""
    key, value = override.key_or_group, text_of(override).partition("=")[2]
    if not is_known(key):
        return unknown_key(key)
    try:
        if f"{key}." in FREE and isinstance(given := override.value(), dict):
            named = {str(name): value for name, value in given.items()}  # Hydra reads 1 as a number
            OmegaConf.update(composed, key, named, force_add=True)
        else:
            ConfigLoaderImpl._apply_overrides_to_config([override], composed)
        return None
    except (HydraException, OmegaConfBaseException) as error:
        cause: Any = error.__cause__ or error
        full_key = getattr(cause, "full_key", None) or key
    if isinstance(cause, ValidationError):
        return _wrong_type(full_key, value or "''", cause)
    if full_key.startswith(FREE):
        return Problem(full_key, f"a key of your own needs a plus sign: +{text_of(override)}")
    if "in struct" in str(cause) or "not in '" in str(cause):
        return unknown_key(full_key)
    return Problem(full_key, _first_line(cause))


def _checked(composed: DictConfig) -> tuple[TrainConfig | None, list[Problem]]:
    problems = [unknown_key(key) for key in stray_keys(composed)] + list(_unresolved(composed))
    if not problems:
        missing = sorted(map(str, OmegaConf.missing_keys(composed)))
        problems = [Problem(key, "??? stands for a value that must be given") for key in missing]
    if problems:
        return None, problems
    try:
        config: Any = OmegaConf.to_object(composed)
    except OmegaConfBaseException as error:
        return None, [Problem(error.full_key or "", _first_line(error))]
    return config, list(problems_of(config))


def _unresolved(node: DictConfig, prefix: str = "") -> Iterator[Problem]:
    """Yield the interpolations that lead nowhere, or to a value of another type."""
    for key in map(str, node):
        child, dotted = node._get_node(key), f"{prefix}{key}"
        if isinstance(child, DictConfig) and not child._is_none() and not child._is_interpolation():
            yield from _unresolved(child, f"{dotted}.")
        elif OmegaConf.is_interpolation(node, key):
            try:
                node[key]
            except OmegaConfBaseException as error:
                reason = re.sub(r"^\w+ raised while resolving interpolation: ", "", _first_line(error))
                yield Problem(dotted, reason)


def _wrong_type(key: str, value: str, error: BaseException) -> Problem:
    try:
        return Problem(key, f"must be {describe_type(field_type(key))}, not {value}")
    except KeyError:
        return Problem(key, _first_line(error))


def _explain_file(error: Exception) -> Problem:
    """Say what is wrong in a YAML file, or with a choice, from Hydra's error."""
    text = str(error)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, option = error.missing_cfg_file.rpartition("/")
        return Problem(group, f"has no option '{option}'; options: {', '.join(error.options or [])}")
    where = re.search(r"In '([^']+)'", text)
    file = f"conf/{where[1]}.yaml" if where else ""
    key = re.search(r"full_key: (\S+)", text)
    value = re.search(r"[Vv]alue '(.*?)'(?= (?:of|for|is|to)\b)|Invalid value '(.*?)'", text)
    problem = Problem(key[1] if key else "", re.sub(r"^In '[^']+': ", "", _first_line(error)))
    if key and " not in '" in text:
        problem = unknown_key(key[1])
    elif key and value:
        shown = next(part for part in value.groups() if part is not None)
        problem = _wrong_type(key[1], "null" if shown == "None" else shown, error)
    return Problem(file, str(problem)) if file else problem


def text_of(override: Override) -> str:
    """Return an override as it was written."""
    return override.input_line or ""


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    heads = re.compile(r"In '[^']+':?.*raised while composing config:|In '[^']+':?|\w+ raised while composing config:")
    return next((line for line in lines if not heads.fullmatch(line)), repr(error))
