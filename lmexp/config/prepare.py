"""The config of a corpus, from a command line in Hydra's syntax."""

from collections.abc import Sequence

from lmexp.config import compose
from lmexp.config.corpus import PrepareConfig
from lmexp.errors import ConfigError


def compose_preparation(overrides: Sequence[str] = ()) -> PrepareConfig:
    """Return the checked config of a command line such as ["corpus=web", "corpus.path=pages", "out=clean"].

    Raises:
        ConfigError: with every problem, each with its dotted key and what is allowed.
    """
    with compose._search_path():
        parsed, problems = compose.parse(overrides)
        chosen, values, more = compose._sort_out(parsed, "prepare")
        problems += more
        composed, more = compose._compose_options("prepare", chosen)
        problems += more
        config = None
        if composed is not None:
            problems += [problem for override in values if (problem := compose._apply(override, composed))]
            config, more = compose._checked(composed)
            problems += more
    if problems or config is None:
        raise ConfigError(problems)
    assert isinstance(config, PrepareConfig)
    return config
