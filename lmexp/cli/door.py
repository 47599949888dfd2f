"""What every command shares: the kinds of arguments, lines for people, and errors as exit codes. No torch here."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from lmexp.errors import ConfigError, LmexpError, Stopped

Run = Annotated[str, typer.Argument(help="A run: its folder, or a part of its name that no other has.")]
Runs = Annotated[
    list[str] | None, typer.Argument(help="Runs, projects, sweeps, tags, patterns such as 'lstm*'; none: all.")
]
Outputs = Annotated[str, typer.Option(help="The folder that runs are in.")]
Checkpoint = Annotated[str, typer.Option(help="last, best, or a name such as step-000250.")]
Plugins = Annotated[list[str] | None, typer.Option("--plugin", help="A .py file or module with own options.")]
Where = Annotated[str | None, typer.Option(help="A condition, as for lmexp runs.")]
Metric = Annotated[str | None, typer.Option(help="What to compare.  [default: val/bits_per_byte]")]

STYLE: dict[str, Any] = {"rich_markup_mode": None, "context_settings": {"help_option_names": ["-h", "--help"]}}
"""Of every group of commands."""


def say(text: str) -> None:
    """Print a line for people, who may send the results elsewhere."""
    print(text, file=sys.stderr, flush=True)


def refuse_options(command: str, given: list[str], cfg: str | None = None) -> None:
    """Refuse what looks like an option among the values that Hydra takes.

    Raises:
        ConfigError: there is one, or `--cfg` is not job.
    """
    unknown = [text for text in given if text.startswith("-")]
    if unknown or cfg not in (None, "job"):
        raise ConfigError(f"unknown option {' '.join(unknown) or f'--cfg {cfg}'}; see lmexp {command} --help")


@contextmanager
def errors() -> Iterator[None]:
    """Turn our errors into a few clear lines and the right exit code."""
    try:
        yield
    except Stopped as stopped:
        say(str(stopped))
        raise typer.Exit(stopped.exit_code) from None
    except LmexpError as error:
        say(f"error: {error}" if "\n" not in str(error) else "error:\n  " + str(error).replace("\n", "\n  "))
        raise typer.Exit(error.exit_code) from None
    except KeyboardInterrupt:
        say("stopped")
        raise typer.Exit(130) from None
    except BrokenPipeError:
        sys.stderr.close()
        raise typer.Exit(0) from None
