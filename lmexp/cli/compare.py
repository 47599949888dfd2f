"""lmexp compare: which runs are better, and how sure that is."""

import json
from typing import Annotated

import typer

from lmexp.cli.door import Metric, Outputs, Runs, Where, errors


def compare(
    runs: Runs = None,
    metric: Metric = None,
    baseline: Annotated[
        str | None, typer.Option(help="A group's letter, a run, or model=lstm.  [default: the oldest group]")
    ] = None,
    better: Annotated[str | None, typer.Option(help="lower or higher, for metrics of your own.")] = None,
    at: Annotated[
        str | None, typer.Option(help="Where: end; tokens, flops, seconds or steps, or tokens=1e6 and so on.")
    ] = None,
    where: Where = None,
    paired: Annotated[bool, typer.Option("--paired", help="Pair runs by seed; from 6 pairs on.")] = False,
    explain_two: Annotated[
        bool, typer.Option("--explain", help="Two runs: everything that differs, likely causes first.")
    ] = False,
    examples: Annotated[
        str | None, typer.Option(help="val or test: side by side on each example that lmexp evaluate has measured.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    outputs: Outputs = "outputs",
) -> None:
    """Say which runs are better, by how much, and how sure that is."""
    with errors():
        if examples:
            from dataclasses import asdict

            from lmexp.runs.examples import as_text as on_examples_as_text
            from lmexp.runs.examples import compare_examples

            found = compare_examples(runs or [], metric=metric, split=examples, outputs=outputs)
            print(json.dumps([asdict(one) for one in found], indent=1) if as_json else on_examples_as_text(found))
            return
        if explain_two:
            from lmexp.runs.explain import as_text as differences_as_text
            from lmexp.runs.explain import differences, two_runs

            one, other = two_runs(runs or [], outputs)
            rows = differences(one, other)
            print(json.dumps(rows, indent=1) if as_json else differences_as_text(one, other, rows))
            return
        from lmexp.runs.compare import compare as compare_runs

        options = {"metric": metric, "baseline": baseline, "better": better, "at": at, "where": where}
        result = compare_runs(runs or [], **options, paired=paired, outputs=outputs)
        if as_json:
            print(json.dumps(result.as_dict(), indent=1))
            return
        from lmexp.runs.comparison_table import as_text

        print(as_text(result))
