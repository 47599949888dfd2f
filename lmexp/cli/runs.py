"""lmexp runs: list, name, tag, push and delete."""

from typing import Annotated

import typer

from lmexp.cli.door import STYLE, Outputs, Run, errors, say

runs_app = typer.Typer(**STYLE)


@runs_app.callback(invoke_without_command=True)
def runs(
    context: typer.Context,
    where: Annotated[
        str | None, typer.Option(help="A condition: 'model.name == \"lstm\" and val/bits_per_byte < 2'.")
    ] = None,
    sort: Annotated[str | None, typer.Option(help="A key to sort by; else the oldest come first.")] = None,
    reverse: Annotated[bool, typer.Option("--reverse", help="The largest first, with --sort.")] = False,
    columns: Annotated[str | None, typer.Option(help="Keys to show: model.name,val/loss_nats,seed.")] = None,
    limit: Annotated[int, typer.Option(min=0, help="The last so many in a table; 0 for all.")] = 50,
    archived: Annotated[bool, typer.Option("--archived", help="Archived runs too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON list of everything that is known.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="CSV for a spreadsheet.")] = False,
    outputs: Outputs = "outputs",
) -> None:
    """List runs and their results; name, tag and delete them."""
    if context.invoked_subcommand:
        context.obj = outputs
        return
    with errors():
        from lmexp.runs import listing

        entries = listing.select(where=where, archived=archived, outputs=outputs)
        if sort:
            entries = listing.sort(entries, sort, reverse=reverse)
        keys = [key.strip() for key in columns.split(",")] if columns else []
        if as_json:
            print(listing.as_json(listing.as_rows(entries)))
        elif as_csv:
            print(listing.as_csv(entries, keys or list(listing.COLUMNS)), end="")
        elif not entries:
            print(f"no runs below {outputs}/ that fit" if where else f"no runs below {outputs}/ yet: lmexp train")
        else:
            shown = (entries[:limit] if sort else entries[-limit:]) if limit else entries
            print(listing.as_table(shown, keys))
            if len(shown) < len(entries):
                print(f"{len(shown)} of {len(entries):,} runs; --limit 0 shows all")


@runs_app.command("tag")
def tag_runs(
    context: typer.Context,
    run: Run,
    tags: Annotated[list[str] | None, typer.Argument(help="Tags to add.")] = None,
    remove: Annotated[list[str] | None, typer.Option(help="A tag to take off; may come more than once.")] = None,
) -> None:
    """Add tags to a run, or take them off."""
    with errors():
        from lmexp.runs import find_run, labels

        print(", ".join(labels.tag(find_run(run, context.obj), tags or [], remove or [])) or "no tags")


@runs_app.command("rename")
def rename_run(
    context: typer.Context,
    run: Run,
    name: Annotated[str, typer.Argument(help="What lists call it from now on; its folder stays.")],
) -> None:
    """Give a run another name."""
    with errors():
        from lmexp.runs import find_run, labels

        labels.rename(find_run(run, context.obj), name)


@runs_app.command("archive")
def archive_runs(
    context: typer.Context,
    runs: Annotated[list[str], typer.Argument(help="Runs to put away: lists and comparisons leave them out.")],
    undo: Annotated[bool, typer.Option("--undo", help="Take them back.")] = False,
) -> None:
    """Put runs away without deleting them."""
    with errors():
        from lmexp.runs import find_run, labels

        for run in [find_run(name, context.obj) for name in runs]:
            labels.archive(run, archived=not undo)


@runs_app.command("sync")
def sync_runs(
    context: typer.Context,
    runs: Annotated[list[str] | None, typer.Argument(help="Runs, projects, tags, patterns; none: all.")] = None,
    project: Annotated[str | None, typer.Option(help="Project at W&B; else that of the run.")] = None,
    entity: Annotated[str | None, typer.Option(help="User or team at W&B; else that of the account.")] = None,
) -> None:
    """Push runs to W&B, with their groups; needs an account."""
    with errors():
        from lmexp.runs.listing import select
        from lmexp.runs.sync import sync

        folders = [entry.folder for entry in select(runs or [], outputs=context.obj)]
        count = sync(folders, project=project, entity=entity, say=say)
        print(f"{count} run{'s' * (count != 1)} pushed to W&B")


@runs_app.command("delete")
def delete_runs(
    context: typer.Context,
    runs: Annotated[list[str], typer.Argument(help="Runs to delete, with their checkpoints.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete runs from the disk; asks."""
    with errors():
        from lmexp.runs import find_run, folder

        chosen = [find_run(name, context.obj) for name in runs]
        for run in chosen:
            folder.require_idle(run)
        names = "\n  ".join(str(run.path) for run in chosen)
        if yes or typer.confirm(f"delete for good?\n  {names}\n"):
            for run in chosen:
                folder.delete(run)
            print(f"deleted {len(chosen)}")
        else:
            print("nothing was deleted")
