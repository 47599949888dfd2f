"""lmexp train: one run, or a sweep of them."""

import json
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from lmexp.cli.door import Plugins, errors, refuse_options, say
from lmexp.errors import ConfigError

if TYPE_CHECKING:
    from lmexp.config import TrainConfig

TRAIN_HELP = """\
Usage: lmexp train [GROUP=OPTION] [KEY=VALUE] ...

Train a model, or show the run when the same experiment is there already; one that was cut off goes on.

  lmexp train model=lstm trainer.max_steps=500       choose an option, change a key
  lmexp train -m seed=0,1,2 model=lstm,transformer   a sweep: every combination is a run
  lmexp train resume=RUN trainer.max_steps=4000      train a finished run for longer

Options
  -m, --multirun    sweep over values separated by commas
  --cfg job         print the resolved config and stop
  --plugin NAME     a .py file or module with options of your own; may come more than once
  -h, --help        this text

{groups}

Every key and its default: lmexp train --cfg job     What a key means: lmexp explain KEY
"""


def train(
    overrides: Annotated[
        list[str] | None, typer.Argument(help="group=option and key=value, as Hydra takes them")
    ] = None,
    multirun: Annotated[bool, typer.Option("--multirun", "-m", help="Sweep over values separated by commas.")] = False,
    cfg: Annotated[str | None, typer.Option("--cfg", help="job: print the resolved config and stop.")] = None,
    plugin: Plugins = None,
    show_help: Annotated[bool, typer.Option("--help", "-h", help="Groups, options and examples.")] = False,
) -> None:
    """Train a model, or show it when it is trained already."""
    overrides = overrides or []
    with errors():
        from lmexp.config.plugins import load_plugins

        plugins = load_plugins(plugin or [])
        if show_help:
            from lmexp.config.explain import groups_and_options

            print(TRAIN_HELP.format(groups=groups_and_options("train")))
            return
        refuse_options("train", overrides, cfg)
        if multirun and cfg:
            raise ConfigError("--cfg job prints the config of one run: leave out -m and the values of the sweep")
        if multirun:
            from lmexp.sweeps import sweep

            raise typer.Exit(sweep(with_folders(overrides), plugins=plugins, say=say))
        config = compose_run(overrides)
        if cfg:
            from lmexp.config.store import to_yaml

            print(to_yaml(config), end="")
            return
        from lmexp.runs.summary import summary
        from lmexp.training import train as train_config

        run = train_config(config, command=sys.argv[1:], plugins=plugins, say=say)
        print(summary(run))


def compose_run(overrides: list[str]) -> "TrainConfig":
    """Return the checked config of one run."""
    from lmexp.config.compose import compose

    return compose("train", with_folders(overrides))


def with_folders(overrides: list[str]) -> list[str]:
    """Return a command line in which `resume=RUN` and `init_from=RUN` name a folder: RUN may be a part of a name."""
    given = dict(text.partition("=")[::2] for text in overrides)
    for key, keywords in (("resume", ("auto", "force", "never")), ("init_from", ("", "null"))):
        value = given.get(key, keywords[0])
        name = value.strip("'\"")
        if name in keywords or ("," in name and name == value):
            continue
        from lmexp.runs import find_run

        folder = find_run(name, given.get("output_dir", "outputs").strip("'\"")).path
        rest = [text for text in overrides if not text.startswith(f"{key}=")]
        overrides = [*rest, f"{key}={json.dumps(str(folder), ensure_ascii=False)}"]
    return overrides
