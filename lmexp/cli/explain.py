"""lmexp explain: what a key means, what a run costs, what it is trained on."""

import json
from typing import Annotated

import typer

from lmexp.cli.door import Plugins, errors, refuse_options
from lmexp.cli.train import compose_run
from lmexp.errors import ConfigError


def explain(
    key: Annotated[
        list[str] | None,
        typer.Argument(
            help="A key such as model.hidden_size, a group, or group=option; with --cost or --batch what train takes."
        ),
    ] = None,
    cost: Annotated[
        bool, typer.Option("--cost", help="Parameters, memory and operations of a run, before it is trained.")
    ] = False,
    batch: Annotated[
        bool, typer.Option("--batch", help="What the model reads first, and what it is trained on.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --cost: one JSON object.")] = False,
    plugin: Plugins = None,
) -> None:
    """Say what a key means, what a run costs, or what it is trained on."""
    keys = key or []
    with errors():
        from lmexp.config.plugins import load_plugins

        load_plugins(plugin or [])
        refuse_options("explain", keys)
        if batch:
            from lmexp.training.first_batch import show

            print(show(compose_run(keys)))
            return
        if not cost:
            if as_json or len(keys) > 1:
                raise ConfigError("lmexp explain takes one key; lmexp explain --cost [--json] takes what train takes")
            from lmexp.config.explain import explain as explain_key

            print(explain_key(keys[0] if keys else None))
            return
        config = compose_run(keys)
        from lmexp.training.costs import as_dict, as_text, count

        costs = count(config)
        print(json.dumps(as_dict(costs), indent=1) if as_json else as_text(costs))
