"""The door: each command is a function in a file of its name, which imports what it needs when it is called."""

import atexit
import gc
from typing import Annotated, Any

import typer

from lmexp import __version__
from lmexp.cli.chat import chat
from lmexp.cli.compare import compare
from lmexp.cli.door import STYLE
from lmexp.cli.evaluate import evaluate
from lmexp.cli.explain import explain
from lmexp.cli.generate import generate
from lmexp.cli.interchange import export, import_
from lmexp.cli.prepare import prepare
from lmexp.cli.report import dashboard, report
from lmexp.cli.runs import runs_app
from lmexp.cli.sweep import sweep_app
from lmexp.cli.train import train

OVERRIDES: dict[str, Any] = {"ignore_unknown_options": True}
"""Of commands that take what Hydra takes; what only looks like an option they refuse themselves, in plain words."""
OWN_HELP = OVERRIDES | {"help_option_names": []}

app = typer.Typer(
    help="Language-model experiments: a config becomes a run, a run is a folder.",
    epilog="First: lmexp train. Then: lmexp runs, lmexp generate RUN. What a key means: lmexp explain KEY.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    **STYLE,
)
app.command(context_settings=OWN_HELP)(train)
app.command(context_settings=OWN_HELP)(prepare)
app.command()(generate)
app.command()(chat)
app.command(context_settings=OVERRIDES)(evaluate)
app.command()(export)
app.command("import")(import_)
app.command()(compare)
app.command()(report)
app.command()(dashboard)
app.command(context_settings=OVERRIDES)(explain)
app.add_typer(runs_app, name="runs")
app.add_typer(sweep_app, name="sweep")


def main() -> None:
    """Run the command line."""
    atexit.register(gc.freeze)  # the interpreter would look for garbage once more, a second where torch is loaded
    app()


@app.callback(invoke_without_command=True)
def root(version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False) -> None:
    if version:
        print(f"lmexp {__version__}")
        raise typer.Exit
