"""lmexp prepare: documents to clean text."""

from typing import Annotated

import typer

from lmexp.cli.door import Plugins, errors, refuse_options, say

PREPARE_HELP = """\
Usage: lmexp prepare [corpus=OPTION] [KEY=VALUE] ... out=FOLDER

Make clean training text from documents: extract, clean, deduplicate, redact, decontaminate, split.
A second run does only what has changed; one that was cut off goes on.

  lmexp prepare corpus.path=documents out=text               whatever mixture of files lies in a folder
  lmexp prepare corpus=wikipedia corpus.path=dump.xml.bz2 out=wiki
  lmexp train data=text data.path=text                       train on it

Options
  --cfg job         print the resolved config and stop
  --plugin NAME     a .py file or module with options of your own; may come more than once
  -h, --help        this text

{groups}

Every key and its default: lmexp prepare ... --cfg job     What a key means: lmexp explain corpus.clean
"""


def prepare(
    overrides: Annotated[
        list[str] | None, typer.Argument(help="corpus=option and key=value, as Hydra takes them")
    ] = None,
    cfg: Annotated[str | None, typer.Option("--cfg", help="job: print the resolved config and stop.")] = None,
    plugin: Plugins = None,
    show_help: Annotated[bool, typer.Option("--help", "-h", help="Options and examples.")] = False,
) -> None:
    """Make clean training text from documents."""
    with errors():
        from lmexp.config.plugins import load_plugins

        load_plugins(plugin or [])
        if show_help:
            from lmexp.config.explain import groups_and_options

            print(PREPARE_HELP.format(groups=groups_and_options("prepare")))
            return
        refuse_options("prepare", overrides or [], cfg)
        from lmexp.config.prepare import compose_preparation

        config = compose_preparation(overrides or [])
        if cfg:
            from lmexp.config.store import to_yaml

            print(to_yaml(config), end="")
            return
        from lmexp.corpus.prepare import prepare as prepare_corpus
        from lmexp.corpus.prepare import shown

        made = prepare_corpus(config, say=say)
        if made:
            print(shown(made, config))
