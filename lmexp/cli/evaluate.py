"""lmexp evaluate: a run over whole splits, or over tasks of lm-evaluation-harness."""

import json
from typing import Annotated

import typer

from lmexp.cli.door import Checkpoint, Run, errors
from lmexp.errors import ConfigError


def evaluate(
    run: Run,
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Other data: data=text data.path=FILE; else its own.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    checkpoint: Checkpoint = "last",
    stride: Annotated[
        int | None, typer.Option(min=1, help="Of a text: windows overlap, and predict so many tokens each.")
    ] = None,
    contamination: Annotated[
        bool, typer.Option("--contamination", help="Count examples that occur in the training text.")
    ] = False,
    harness: Annotated[
        str | None, typer.Option(help="Tasks of lm-evaluation-harness, or YAML files of your own: TASK,FILE.yaml,...")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="With --harness: the first so many examples.")] = None,
    num_fewshot: Annotated[int | None, typer.Option(min=0, help="With --harness: solved examples before each.")] = None,
) -> None:
    """Measure a run over whole splits of its own data or other."""
    with errors():
        from lmexp.config.evaluate import compose_evaluation
        from lmexp.runs import find_run

        if harness:
            _evaluate_with_harness(run, overrides, harness, checkpoint, limit, num_fewshot, as_json)
            return
        compose_evaluation(find_run(run).path, overrides or [])  # what is wrong is said before torch is imported
        from lmexp.evaluation.evaluate import as_table
        from lmexp.evaluation.evaluate import evaluate as evaluate_run

        result = evaluate_run(run, overrides or [], checkpoint=checkpoint, stride=stride, contaminated=contamination)
        print(json.dumps(result, indent=1) if as_json else as_table(result))


def _evaluate_with_harness(
    run: str,
    overrides: list[str] | None,
    tasks: str,
    checkpoint: str,
    limit: int | None,
    num_fewshot: int | None,
    as_json: bool,
) -> None:
    from lmexp.runs import find_run

    find_run(run)
    if overrides:
        raise ConfigError(f"--harness brings its own data: leave out {' '.join(overrides)}")
    from lmexp.evaluation.harness import as_table
    from lmexp.evaluation.harness import evaluate as evaluate_tasks

    names = [name for name in tasks.split(",") if name]
    result = evaluate_tasks(run, names, checkpoint=checkpoint, limit=limit, num_fewshot=num_fewshot)
    print(json.dumps(result, indent=1) if as_json else as_table(result))
