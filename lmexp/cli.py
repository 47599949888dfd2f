"""The door: a command becomes a call of one function, which is imported only then. No torch here."""

import atexit
import gc
import json
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lmexp import __version__
from lmexp.errors import ConfigError, LmexpError, Stopped

if TYPE_CHECKING:
    from lmexp.config import TrainConfig

app = typer.Typer(
    help="Language-model experiments: a config becomes a run, a run is a folder.",
    epilog="First: lmexp train. Then: lmexp runs, lmexp generate RUN. What a key means: lmexp explain KEY.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

runs_app = typer.Typer(rich_markup_mode=None, context_settings={"help_option_names": ["-h", "--help"]})
app.add_typer(runs_app, name="runs")
sweep_app = typer.Typer(
    help="Show a sweep, stop it, or give it more trials.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(sweep_app, name="sweep")
Outputs = Annotated[str, typer.Option(help="The folder that runs are in.")]

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


def main() -> None:
    """Run the command line."""
    atexit.register(gc.freeze)  # the interpreter would look for garbage once more, a second where torch is loaded
    app()


@app.callback(invoke_without_command=True)
def root(version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False) -> None:
    if version:
        print(f"lmexp {__version__}")
        raise typer.Exit


@app.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
def train(
    overrides: Annotated[
        list[str] | None, typer.Argument(help="group=option and key=value, as Hydra takes them")
    ] = None,
    multirun: Annotated[bool, typer.Option("--multirun", "-m", help="Sweep over values separated by commas.")] = False,
    cfg: Annotated[str | None, typer.Option("--cfg", help="job: print the resolved config and stop.")] = None,
    plugin: Annotated[list[str] | None, typer.Option("--plugin", help="A .py file or module with own options.")] = None,
    show_help: Annotated[bool, typer.Option("--help", "-h", help="Groups, options and examples.")] = False,
) -> None:
    """Train a model, or show it when it is trained already."""
    overrides = overrides or []
    with _errors():
        from lmexp.config.plugins import load_plugins

        plugins = load_plugins(plugin or [])
        if show_help:
            from lmexp.config.explain import groups_and_options

            print(TRAIN_HELP.format(groups=groups_and_options("train")))
            return
        unknown = [text for text in overrides if text.startswith("-")]
        if unknown or cfg not in (None, "job"):
            raise ConfigError(f"unknown option {' '.join(unknown) or f'--cfg {cfg}'}; see lmexp train --help")
        if multirun and cfg:
            raise ConfigError("--cfg job prints the config of one run: leave out -m and the values of the sweep")
        if multirun:
            from lmexp.sweeps import sweep

            raise typer.Exit(sweep(_with_folders(overrides), plugins=plugins, say=_say))
        config = _compose(overrides)
        if cfg:
            from lmexp.config.store import to_yaml

            print(to_yaml(config), end="")
            return
        from lmexp.runs.summary import summary
        from lmexp.training import train as train_config

        run = train_config(config, command=sys.argv[1:], plugins=plugins, say=_say)
        print(summary(run))


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


@app.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
def prepare(
    overrides: Annotated[
        list[str] | None, typer.Argument(help="corpus=option and key=value, as Hydra takes them")
    ] = None,
    cfg: Annotated[str | None, typer.Option("--cfg", help="job: print the resolved config and stop.")] = None,
    plugin: Annotated[list[str] | None, typer.Option("--plugin", help="A .py file or module with own options.")] = None,
    show_help: Annotated[bool, typer.Option("--help", "-h", help="Options and examples.")] = False,
) -> None:
    """Make clean training text from documents."""
    with _errors():
        from lmexp.config.plugins import load_plugins

        load_plugins(plugin or [])
        if show_help:
            from lmexp.config.explain import groups_and_options

            print(PREPARE_HELP.format(groups=groups_and_options("prepare")))
            return
        unknown = [text for text in overrides or [] if text.startswith("-")]
        if unknown or cfg not in (None, "job"):
            raise ConfigError(f"unknown option {' '.join(unknown) or f'--cfg {cfg}'}; see lmexp prepare --help")
        from lmexp.config.prepare import compose_preparation

        config = compose_preparation(overrides or [])
        if cfg:
            from lmexp.config.store import to_yaml

            print(to_yaml(config), end="")
            return
        from lmexp.corpus.prepare import prepare as prepare_corpus
        from lmexp.corpus.prepare import shown

        made = prepare_corpus(config, say=_say)
        if made:
            print(shown(made, config))


@app.command()
def generate(
    run: Annotated[str, typer.Argument(help="A run: its folder, or a part of its name that no other has.")],
    prompt: Annotated[list[str] | None, typer.Option(help="What a text begins with; may come more than once.")] = None,
    prompts_file: Annotated[
        str | None, typer.Option(help='A prompt a line, or {"prompt": ...} a line in .jsonl; - reads stdin.')
    ] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Tokens to write at most.")] = 200,
    temperature: Annotated[
        float | None,
        typer.Option(min=0, help="0: the likeliest token; 1: as the model is.  [default: 0.8; from a source 0]"),
    ] = None,
    top_k: Annotated[int | None, typer.Option(min=1, help="Choose among the k likeliest tokens.")] = None,
    top_p: Annotated[float | None, typer.Option(min=0, max=1, help="Choose among the likeliest of this share.")] = None,
    min_p: Annotated[
        float | None, typer.Option(min=0, max=1, help="Choose among those this share as likely as the likeliest.")
    ] = None,
    repetition_penalty: Annotated[float, typer.Option(help="Above 1: what was said before is less likely.")] = 1.0,
    stop: Annotated[list[str] | None, typer.Option(help="End before this text; may come more than once.")] = None,
    num_beams: Annotated[int, typer.Option(min=1, help="Above 1: search for the likeliest text.")] = 1,
    length_penalty: Annotated[float, typer.Option(help="Of beam search: larger for longer texts.")] = 1.0,
    num_samples: Annotated[int, typer.Option(min=1, help="Texts for each prompt; each has the next seed.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Another seed, another text.")] = 0,
    batch_size: Annotated[int, typer.Option(min=1, help="Texts at once; changes none of them.")] = 32,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    checkpoint: Annotated[str, typer.Option(help="last, best, or a name such as step-000250.")] = "last",
) -> None:
    """Write texts with a trained model, or tell labels."""
    with _errors():
        from lmexp.generation.prompts import read_prompts, require_writer
        from lmexp.generation.sampling import Sampling
        from lmexp.runs import find_run

        config = find_run(run).config
        is_classifier, has_source = config.task.name == "classify", config.model.kind.name == "encoder_decoder"
        sampling = Sampling(
            max_tokens=max_tokens,
            temperature=(0.0 if num_beams > 1 or has_source else 0.8) if temperature is None else temperature,
            top_k=top_k,
            top_p=top_p,
            min_p=min_p,
            repetition_penalty=repetition_penalty,
            stop=tuple(stop or ()),
            num_beams=num_beams,
            length_penalty=length_penalty,
            seed=seed,
        )
        sampling.require_samples(num_samples)
        if not is_classifier:
            require_writer(find_run(run))  # what is wrong is said before torch is imported
        prompts = read_prompts(prompt or [], prompts_file)
        from lmexp.checkpoints import load_run
        from lmexp.generation.forms import form_of
        from lmexp.generation.text import complete, printable, write

        loaded = load_run(run, checkpoint)
        if is_classifier:
            from lmexp.serving.labels import label
            from lmexp.serving.labels import shown as shown_label

            for found in label(loaded, prompts, batch_size=batch_size):
                line = json.dumps(found, ensure_ascii=False) if as_json else printable(shown_label(found))
                print(line, flush=True)
            return
        form = form_of(loaded.config, loaded.tokenizer)
        if len(prompts) * num_samples * num_beams == 1 and not as_json:
            for text in write(loaded.model, form, prompts[0], sampling):
                print(text, end="", flush=True)
            print()
            return
        completions = complete(loaded.model, form, prompts, sampling, num_samples=num_samples, batch_size=batch_size)
        for number, completion in enumerate(completions):
            if as_json:
                print(json.dumps(completion.as_dict()), flush=True)
            else:
                shown = printable(form.shown(completion.prompt, completion.text))
                print(("\n" if number and not has_source else "") + shown, flush=True)  # a source a line


@app.command()
def chat(
    run: Annotated[str, typer.Argument(help="A run: its folder, or a part of its name that no other has.")],
    system: Annotated[str | None, typer.Option(help="What the assistant is; else as in training.")] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Tokens of an answer at most.")] = 500,
    temperature: Annotated[float, typer.Option(min=0, help="0: the likeliest token; 1: as the model is.")] = 0.8,
    top_p: Annotated[float | None, typer.Option(min=0, max=1, help="Choose among the likeliest of this share.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Another seed, another answer.")] = 0,
    serve: Annotated[
        bool, typer.Option("--serve", help="Answer over HTTP on 127.0.0.1 as OpenAI's interface does.")
    ] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="With --serve; 0 takes a free one.")] = 8643,
    max_requests: Annotated[int, typer.Option(min=1, help="With --serve: texts at once, with those that wait.")] = 64,
    timeout_seconds: Annotated[float, typer.Option(min=1, help="With --serve: what a text may take.")] = 120.0,
    checkpoint: Annotated[str, typer.Option(help="last, best, or a name such as step-000250.")] = "last",
) -> None:
    """Talk to a run that has learned to answer, here or over HTTP."""
    with _errors():
        from lmexp.generation.prompts import require_writer
        from lmexp.generation.sampling import Sampling
        from lmexp.runs import find_run

        sampling = Sampling(max_tokens=max_tokens, temperature=temperature, top_p=top_p, seed=seed)
        require_writer(find_run(run))  # what is wrong is said before torch is imported
        from lmexp.checkpoints import load_run

        if serve:
            from lmexp.serving.endpoint import Limits
            from lmexp.serving.endpoint import serve as serve_run

            limits = Limits(max_tokens=max_tokens, max_requests=max_requests, timeout_seconds=timeout_seconds)
            serve_run(load_run(run, checkpoint), port=port, limits=limits, say=_say)
            return
        from lmexp.serving.dialogue import Dialogue
        from lmexp.serving.terminal import chat as chat_in_terminal

        dialogue = Dialogue(load_run(run, checkpoint), sampling)
        dialogue.reset(system)
        chat_in_terminal(dialogue)


@app.command(context_settings={"ignore_unknown_options": True})
def evaluate(
    run: Annotated[str, typer.Argument(help="A run: its folder, or a part of its name that no other has.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Other data: data=text data.path=FILE; else its own.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    checkpoint: Annotated[str, typer.Option(help="last, best, or a name such as step-000250.")] = "last",
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
    with _errors():
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


@app.command()
def export(
    run: Annotated[str, typer.Argument(help="A run: its folder, or a part of its name that no other has.")],
    out: Annotated[str, typer.Option("--out", help="A new folder.")],
    to: Annotated[
        str, typer.Option("--to", help="hf: for transformers; safetensors: for a reader of your own.")
    ] = "hf",
    checkpoint: Annotated[str, typer.Option(help="last, best, or a name such as step-000250.")] = "last",
) -> None:
    """Write the model of a run as a folder for others."""
    with _errors():
        from lmexp.runs import find_run

        find_run(run)  # a wrong name is said before torch is imported
        from lmexp.interchange.exporting import export as export_run

        print(export_run(run, out, to=to, checkpoint=checkpoint))


@app.command("import")
def import_(
    source: Annotated[str, typer.Argument(help="A folder with config.json and safetensors, or a .gguf file.")],
    name: Annotated[str | None, typer.Option(help="What to call the run; else it is called as the folder is.")] = None,
    project: Annotated[str, typer.Option(help="Folder of runs below outputs/.")] = "lmexp",
    output_dir: Annotated[str, typer.Option(help="Folder of all projects.")] = "outputs",
) -> None:
    """Make a run of a model from elsewhere."""
    with _errors():
        from lmexp.interchange.importing import import_run

        run, is_new = import_run(source, name=name, project=project, output_dir=output_dir, command=sys.argv[1:])
        record = run.record
        print(f"{'imported' if is_new else 'is there already:'} {run.path}")
        print(f"  {record['imported']['architecture']}, {record['parameters']:,} parameters")
        print(f"next\n  lmexp evaluate {run.path.name}")
        print(f"  lmexp train init_from={run.path.name} data=text data.path=FILE")


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
    with _errors():
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
    run: Annotated[str, typer.Argument(help="A run: its folder, or a part of its name that no other has.")],
    tags: Annotated[list[str] | None, typer.Argument(help="Tags to add.")] = None,
    remove: Annotated[list[str] | None, typer.Option(help="A tag to take off; may come more than once.")] = None,
) -> None:
    """Add tags to a run, or take them off."""
    with _errors():
        from lmexp.runs import find_run, labels

        print(", ".join(labels.tag(find_run(run, context.obj), tags or [], remove or [])) or "no tags")


@runs_app.command("rename")
def rename_run(
    context: typer.Context,
    run: Annotated[str, typer.Argument(help="A run: its folder, or a part of its name that no other has.")],
    name: Annotated[str, typer.Argument(help="What lists call it from now on; its folder stays.")],
) -> None:
    """Give a run another name."""
    with _errors():
        from lmexp.runs import find_run, labels

        labels.rename(find_run(run, context.obj), name)


@runs_app.command("archive")
def archive_runs(
    context: typer.Context,
    runs: Annotated[list[str], typer.Argument(help="Runs to put away: lists and comparisons leave them out.")],
    undo: Annotated[bool, typer.Option("--undo", help="Take them back.")] = False,
) -> None:
    """Put runs away without deleting them."""
    with _errors():
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
    with _errors():
        from lmexp.runs.listing import select
        from lmexp.runs.sync import sync

        folders = [entry.folder for entry in select(runs or [], outputs=context.obj)]
        count = sync(folders, project=project, entity=entity, say=_say)
        print(f"{count} run{'s' * (count != 1)} pushed to W&B")


@runs_app.command("delete")
def delete_runs(
    context: typer.Context,
    runs: Annotated[list[str], typer.Argument(help="Runs to delete, with their checkpoints.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete runs from the disk; asks."""
    with _errors():
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


@app.command()
def compare(
    runs: Annotated[
        list[str] | None, typer.Argument(help="Runs, projects, sweeps, tags, patterns such as 'lstm*'; none: all.")
    ] = None,
    metric: Annotated[str | None, typer.Option(help="What to compare.  [default: val/bits_per_byte]")] = None,
    baseline: Annotated[
        str | None, typer.Option(help="A group's letter, a run, or model=lstm.  [default: the oldest group]")
    ] = None,
    better: Annotated[str | None, typer.Option(help="lower or higher, for metrics of your own.")] = None,
    at: Annotated[
        str | None, typer.Option(help="Where: end; tokens, flops, seconds or steps, or tokens=1e6 and so on.")
    ] = None,
    where: Annotated[str | None, typer.Option(help="A condition, as for lmexp runs.")] = None,
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
    with _errors():
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


Sweep = Annotated[str, typer.Argument(help="A sweep: its folder, or a part of its name that no other has.")]


@sweep_app.command("status")
def sweep_status(
    name: Sweep,
    as_json: Annotated[bool, typer.Option("--json", help="sweep.json as it is.")] = False,
    outputs: Outputs = "outputs",
) -> None:
    """Show every trial, the best, and what is to come."""
    with _errors():
        from lmexp.sweeps.record import find_sweep, release
        from lmexp.sweeps.show import as_text as sweep_as_text

        folder = find_sweep(name, outputs)
        record = folder.record
        release(record, folder)
        print(json.dumps(record, indent=1) if as_json else sweep_as_text(record))


@sweep_app.command("stop")
def sweep_stop(name: Sweep, outputs: Outputs = "outputs") -> None:
    """End every worker; trials that are at work save a checkpoint."""
    with _errors():
        from lmexp.sweeps.record import find_sweep

        folder = find_sweep(name, outputs)
        folder.stop()
        _say(f"{folder.name} ends at the next step of its trials; its command goes on with it")


@sweep_app.command("extend", context_settings={"ignore_unknown_options": True})
def sweep_extend(
    name: Sweep,
    more: Annotated[list[str], typer.Argument(help="Of a search, the trials in all; of a grid, more values: seed=3,4")],
    outputs: Outputs = "outputs",
) -> None:
    """Give a sweep more trials, and run them."""
    with _errors():
        from lmexp.config.plugins import load_plugins
        from lmexp.sweeps.extend import extend
        from lmexp.sweeps.record import find_sweep

        folder = find_sweep(name, outputs)
        plugins = load_plugins(folder.record.get("plugins", []))
        raise typer.Exit(extend(folder, more, plugins=plugins, say=_say))


@app.command()
def report(
    runs: Annotated[
        list[str] | None, typer.Argument(help="Runs, projects, sweeps, tags, patterns such as 'lstm*'; none: all.")
    ] = None,
    out: Annotated[
        str, typer.Option("--out", help=".html the page, .md tables, .svg .png .pdf learning curves.")
    ] = "report.html",
    title: Annotated[str | None, typer.Option(help="What the report is called.")] = None,
    metric: Annotated[str | None, typer.Option(help="What to compare.  [default: val/bits_per_byte]")] = None,
    baseline: Annotated[str | None, typer.Option(help="As for lmexp compare.")] = None,
    better: Annotated[str | None, typer.Option(help="lower or higher, for metrics of your own.")] = None,
    at: Annotated[str | None, typer.Option(help="As for lmexp compare.")] = None,
    where: Annotated[str | None, typer.Option(help="A condition, as for lmexp runs.")] = None,
    outputs: Outputs = "outputs",
) -> None:
    """Write one file that shows runs, their curves and verdicts."""
    with _errors():
        from lmexp.runs.listing import select
        from lmexp.runs.report.write import write_report

        entries = select(runs or [], where=where, outputs=outputs)
        options = {"metric": metric, "baseline": baseline, "better": better, "at": at, "sweep": _sweep(runs, outputs)}
        name = title or f"lmexp: {', '.join(runs) if runs else 'all runs'}"
        path = write_report(entries, out, title=name, command=shlex.join(["lmexp", *sys.argv[1:]]), **options)
        print(f"{path}: {len(entries):,} run{'s' * (len(entries) != 1)}, {path.stat().st_size / 1e6:.1f} MB")


@app.command()
def dashboard(
    runs: Annotated[
        list[str] | None, typer.Argument(help="Runs, projects, sweeps, tags, patterns such as 'lstm*'; none: all.")
    ] = None,
    metric: Annotated[str | None, typer.Option(help="What to compare.  [default: val/bits_per_byte]")] = None,
    baseline: Annotated[str | None, typer.Option(help="As for lmexp compare.")] = None,
    where: Annotated[str | None, typer.Option(help="A condition, as for lmexp runs.")] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8642,
    open_browser: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
    outputs: Outputs = "outputs",
) -> None:
    """Show the report live on 127.0.0.1 while runs are going on."""
    with _errors():
        from lmexp.runs.dashboard import serve
        from lmexp.runs.listing import select
        from lmexp.runs.report.content import report_content

        def content() -> dict[str, Any]:
            entries = select(runs or [], where=where, outputs=outputs)
            title = f"lmexp: {', '.join(runs) if runs else 'all runs'}"
            options: dict[str, Any] = {"metric": metric, "baseline": baseline, "sweep": _sweep(runs, outputs)}
            return report_content(entries, title=title, command="lmexp dashboard", **options)

        serve(content, port=port, open_browser=open_browser, say=_say)


def _sweep(names: list[str] | None, outputs: str) -> dict[str, Any] | None:
    """Return what a report says of a sweep, where one is named and nothing else is."""
    if not names or len(names) > 1 or not any(Path(outputs).glob(f"*/sweeps/{names[0]}/sweep.json")):
        return None
    from lmexp.sweeps.record import find_sweep
    from lmexp.sweeps.report import sweep_content

    return sweep_content(find_sweep(names[0], outputs).record)


@app.command(context_settings={"ignore_unknown_options": True})
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
    plugin: Annotated[list[str] | None, typer.Option("--plugin", help="A .py file or module with own options.")] = None,
) -> None:
    """Say what a key means, what a run costs, or what it is trained on."""
    keys = key or []
    with _errors():
        from lmexp.config.plugins import load_plugins

        load_plugins(plugin or [])
        unknown = [text for text in keys if text.startswith("-")]
        if unknown:
            raise ConfigError(f"unknown option {' '.join(unknown)}; see lmexp explain --help")
        if batch:
            from lmexp.training.first_batch import show

            print(show(_compose(keys)))
            return
        if not cost:
            if as_json or len(keys) > 1:
                raise ConfigError("lmexp explain takes one key; lmexp explain --cost [--json] takes what train takes")
            from lmexp.config.explain import explain as explain_key

            print(explain_key(keys[0] if keys else None))
            return
        config = _compose(keys)
        from lmexp.training.costs import as_dict, as_text, count

        costs = count(config)
        print(json.dumps(as_dict(costs), indent=1) if as_json else as_text(costs))


def _compose(overrides: list[str]) -> "TrainConfig":
    from lmexp.config.compose import compose

    return compose("train", _with_folders(overrides))


def _with_folders(overrides: list[str]) -> list[str]:
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


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@contextmanager
def _errors() -> Iterator[None]:
    """Turn our errors into a few clear lines and the right exit code."""
    try:
        yield
    except Stopped as stopped:
        _say(str(stopped))
        raise typer.Exit(stopped.exit_code) from None
    except LmexpError as error:
        _say(f"error: {error}" if "\n" not in str(error) else "error:\n  " + str(error).replace("\n", "\n  "))
        raise typer.Exit(error.exit_code) from None
    except KeyboardInterrupt:
        _say("stopped")
        raise typer.Exit(130) from None
    except BrokenPipeError:
        sys.stderr.close()
        raise typer.Exit(0) from None
