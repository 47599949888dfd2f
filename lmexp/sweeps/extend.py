"""`lmexp sweep extend`: more trials for a sweep that is there."""

import contextlib
from collections.abc import Callable, Sequence

from lmexp.errors import ConfigError, Problem, RunError
from lmexp.sweeps.drive import sweep
from lmexp.sweeps.record import SweepFolder

TRIALS = "hydra.sweeper.n_trials"


def extend(folder: SweepFolder, more: Sequence[str], *, plugins: Sequence[str], say: Callable[[str], None]) -> int:
    """Run the sweep with more trials and return its exit code. Of a search `more` is the number of trials in all; of a
    grid, keys with further values.

    Raises:
        ConfigError: what is asked for cannot be added.
    """
    record, folder = folder.record, SweepFolder(folder.path.absolute())
    overrides = [text for text in record["command"][2:] if not text.startswith("sweep.name=")]
    if "sampler" in record["space"]:
        overrides = [text for text in overrides if not text.startswith(f"{TRIALS}=")]
        overrides.append(f"{TRIALS}={_number(record['n_trials'], more)}")
    else:
        values = {one["key"]: list(one["values"]) for one in record["space"]["dimensions"]}
        for text in more:
            overrides = with_values(overrides, text, values)
    try:
        with contextlib.chdir(record["working_folder"]):  # paths in its command line are seen from there
            return sweep([*overrides, f"sweep.name={folder.name}"], plugins=plugins, say=say, extends=True)
    except FileNotFoundError:
        raise RunError(f"{folder.path} was begun in {record['working_folder']}, which is not there any more") from None


def _number(before: int, more: Sequence[str]) -> int:
    text = " ".join(more)
    if not text.isdigit() or int(text) <= before:
        raise ConfigError(f"a search has {before} trials; give a larger number of them in all, not '{text}'")
    return int(text)


def with_values(overrides: Sequence[str], text: str, values: dict[str, list[str]]) -> list[str]:
    """Return a command line in which a key has further values; `values` are those that it has."""
    key, equals, given = text.partition("=")
    if not equals or key not in values:
        message = f"does not vary in this sweep, so it cannot have more values; these do: {', '.join(values)}"
        raise ConfigError([Problem(key, message)])
    values[key].append(given)
    return [*(one for one in overrides if one.partition("=")[0] != key), f"{key}={','.join(values[key])}"]
