"""lmexp sweep: show one, stop it, give it more trials."""

import json
from typing import Annotated

import typer

from lmexp.cli.door import STYLE, Outputs, errors, say

sweep_app = typer.Typer(help="Show a sweep, stop it, or give it more trials.", no_args_is_help=True, **STYLE)
Sweep = Annotated[str, typer.Argument(help="A sweep: its folder, or a part of its name that no other has.")]


@sweep_app.command("status")
def sweep_status(
    name: Sweep,
    as_json: Annotated[bool, typer.Option("--json", help="sweep.json as it is.")] = False,
    outputs: Outputs = "outputs",
) -> None:
    """Show every trial, the best, and what is to come."""
    with errors():
        from lmexp.sweeps.record import find_sweep, release
        from lmexp.sweeps.show import as_text as sweep_as_text

        folder = find_sweep(name, outputs)
        record = folder.record
        release(record, folder)
        print(json.dumps(record, indent=1) if as_json else sweep_as_text(record))


@sweep_app.command("stop")
def sweep_stop(name: Sweep, outputs: Outputs = "outputs") -> None:
    """End every worker; trials that are at work save a checkpoint."""
    with errors():
        from lmexp.sweeps.record import find_sweep

        folder = find_sweep(name, outputs)
        folder.stop()
        say(f"{folder.name} ends at the next step of its trials; its command goes on with it")


@sweep_app.command("extend", context_settings={"ignore_unknown_options": True})
def sweep_extend(
    name: Sweep,
    more: Annotated[list[str], typer.Argument(help="Of a search, the trials in all; of a grid, more values: seed=3,4")],
    outputs: Outputs = "outputs",
) -> None:
    """Give a sweep more trials, and run them."""
    with errors():
        from lmexp.config.plugins import load_plugins
        from lmexp.sweeps.extend import extend
        from lmexp.sweeps.record import find_sweep

        folder = find_sweep(name, outputs)
        plugins = load_plugins(folder.record.get("plugins", []))
        raise typer.Exit(extend(folder, more, plugins=plugins, say=say))
