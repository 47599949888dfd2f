"""lmexp export and lmexp import: models to others and from them."""

import sys
from typing import Annotated

import typer

from lmexp.cli.door import Checkpoint, Run, errors


def export(
    run: Run,
    out: Annotated[str, typer.Option("--out", help="A new folder.")],
    to: Annotated[
        str, typer.Option("--to", help="hf: for transformers; safetensors: for a reader of your own.")
    ] = "hf",
    checkpoint: Checkpoint = "last",
) -> None:
    """Write the model of a run as a folder for others."""
    with errors():
        from lmexp.runs import find_run

        find_run(run)  # a wrong name is said before torch is imported
        from lmexp.interchange.exporting import export as export_run

        print(export_run(run, out, to=to, checkpoint=checkpoint))


def import_(
    source: Annotated[str, typer.Argument(help="A folder with config.json and safetensors, or a .gguf file.")],
    name: Annotated[str | None, typer.Option(help="What to call the run; else it is called as the folder is.")] = None,
    project: Annotated[str, typer.Option(help="Folder of runs below outputs/.")] = "lmexp",
    output_dir: Annotated[str, typer.Option(help="Folder of all projects.")] = "outputs",
) -> None:
    """Make a run of a model from elsewhere."""
    with errors():
        from lmexp.interchange.importing import import_run

        run, is_new = import_run(source, name=name, project=project, output_dir=output_dir, command=sys.argv[1:])
        record = run.record
        print(f"{'imported' if is_new else 'is there already:'} {run.path}")
        print(f"  {record['imported']['architecture']}, {record['parameters']:,} parameters")
        print(f"next\n  lmexp evaluate {run.path.name}")
        print(f"  lmexp train init_from={run.path.name} data=text data.path=FILE")
