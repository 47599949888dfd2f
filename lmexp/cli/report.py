"""lmexp report and lmexp dashboard: the same page, written once or live."""

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from lmexp.cli.door import Metric, Outputs, Runs, Where, errors, say


def report(
    runs: Runs = None,
    out: Annotated[
        str, typer.Option("--out", help=".html the page, .md tables, .svg .png .pdf learning curves.")
    ] = "report.html",
    title: Annotated[str | None, typer.Option(help="What the report is called.")] = None,
    metric: Metric = None,
    baseline: Annotated[str | None, typer.Option(help="As for lmexp compare.")] = None,
    better: Annotated[str | None, typer.Option(help="lower or higher, for metrics of your own.")] = None,
    at: Annotated[str | None, typer.Option(help="As for lmexp compare.")] = None,
    where: Where = None,
    outputs: Outputs = "outputs",
) -> None:
    """Write one file that shows runs, their curves and verdicts."""
    with errors():
        from lmexp.runs.listing import select
        from lmexp.runs.report.write import write_report

        entries = select(runs or [], where=where, outputs=outputs)
        options = {"metric": metric, "baseline": baseline, "better": better, "at": at, "sweep": _sweep(runs, outputs)}
        name = title or f"lmexp: {', '.join(runs) if runs else 'all runs'}"
        path = write_report(entries, out, title=name, command=shlex.join(["lmexp", *sys.argv[1:]]), **options)
        print(f"{path}: {len(entries):,} run{'s' * (len(entries) != 1)}, {path.stat().st_size / 1e6:.1f} MB")


def dashboard(
    runs: Runs = None,
    metric: Metric = None,
    baseline: Annotated[str | None, typer.Option(help="As for lmexp compare.")] = None,
    where: Where = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8642,
    open_browser: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
    outputs: Outputs = "outputs",
) -> None:
    """Show the report live on 127.0.0.1 while runs are going on."""
    with errors():
        from lmexp.runs.dashboard import serve
        from lmexp.runs.listing import select
        from lmexp.runs.report.content import report_content

        def content() -> dict[str, Any]:
            entries = select(runs or [], where=where, outputs=outputs)
            title = f"lmexp: {', '.join(runs) if runs else 'all runs'}"
            options: dict[str, Any] = {"metric": metric, "baseline": baseline, "sweep": _sweep(runs, outputs)}
            return report_content(entries, title=title, command="lmexp dashboard", **options)

        serve(content, port=port, open_browser=open_browser, say=say)


def _sweep(names: list[str] | None, outputs: str) -> dict[str, Any] | None:
    """Return what a report says of a sweep, where one is named and nothing else is."""
    if not names or len(names) > 1 or not any(Path(outputs).glob(f"*/sweeps/{names[0]}/sweep.json")):
        return None
    from lmexp.sweeps.record import find_sweep
    from lmexp.sweeps.report import sweep_content

    return sweep_content(find_sweep(names[0], outputs).record)
