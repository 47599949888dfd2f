"""`lmexp sweep extend`: more trials for a sweep that is there."""

from collections.abc import Callable, Sequence

from lmexp.errors import ConfigError, Problem
from lmexp.sweeps.drive import sweep
from lmexp.sweeps.record import SweepFolder

TRIALS = "hydra.sweeper.n_trials"


def extend(folder: SweepFolder, more: Sequence[str], *, plugins: Sequence[str], say: Callable[[str], None]) -> int:
    """Run the sweep with more trials and return its exit code. Of a search `more` is the number of trials in all; of a
    grid, keys with further values.

    Raises:
        ConfigError: what is asked for cannot be added.
    """
    record = folder.record
    overrides = [text for text in record["command"][2:] if not text.startswith("sweep.name=")]
    if "sampler" in record["space"]:
        overrides = [text for text in overrides if not text.startswith(f"{TRIALS}=")]
        overrides.append(f"{TRIALS}={_number(record['n_trials'], more)}")
    else:
        for text in more:
            overrides = _with_values(overrides, text, {one["key"] for one in record["space"]["dimensions"]})
    return sweep([*overrides, f"sweep.name={folder.name}"], plugins=plugins, say=say, extends=True)


def _number(before: int, more: Sequence[str]) -> int:
    text = " ".join(more)
    if not text.isdigit() or int(text) <= before:
        raise ConfigError(f"a search has {before} trials; give a larger number of them in all, not '{text}'")
    return int(text)


def _with_values(overrides: Sequence[str], text: str, keys: set[str]) -> list[str]:
    key, equals, values = text.partition("=")
    if not equals or key not in keys:
        message = f"does not vary in this sweep, so it cannot have more values; these do: {', '.join(sorted(keys))}"
        raise ConfigError([Problem(key, message)])
    return [f"{one},{values}" if one.partition("=")[0] == key else one for one in overrides]
