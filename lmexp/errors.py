"""The few kinds of failure that a person can act on; each carries its exit code.

Anything that is not an LmexpError is our bug: it ends with code 1 and its traceback is kept in the run folder.
"""

from collections.abc import Sequence
from dataclasses import dataclass


class LmexpError(Exception):
    """A failure with a message for people: what is wrong, where, and what to do."""

    exit_code = 1


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong in a config: the dotted key, and what to do about it."""

    key: str
    message: str

    def __str__(self) -> str:
        return f"{self.key}: {self.message}" if self.key else self.message


class ConfigError(LmexpError):
    """Everything that is wrong with a config, all at once."""

    exit_code = 2

    def __init__(self, problems: Sequence[Problem] | str) -> None:
        self.problems = [Problem("", problems)] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(map(str, self.problems)))


class DataError(LmexpError):
    """Text, tokens or a file that cannot be used as they are."""

    exit_code = 2


class RunError(LmexpError):
    """A run folder that cannot be used: missing, of another config, or busy."""

    exit_code = 2


class BusyError(RunError):
    """A run that another process is training."""


class StorageError(LmexpError):
    """A disk that is full or read-only, or a file on it that is damaged."""

    exit_code = 3


class NumericsError(LmexpError):
    """A loss or gradient that is no longer a finite number."""

    exit_code = 4


class DistributedError(LmexpError):
    """A rank that died, hung, or disagrees with the others."""

    exit_code = 5


class Stopped(LmexpError):  # noqa: N818 - it is an outcome, not a mistake
    """A run that was told to stop by a signal and saved a checkpoint first."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number


class MissingPackageError(LmexpError):
    """An optional package is not installed."""

    exit_code = 2

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed; install it with: pip install 'lmexp[{extra}]'")
