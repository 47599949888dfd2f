"""The door: what people see, which exit code they get, and that nothing heavy is imported before it is needed."""

import json
import subprocess
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import pytest

from lmexp import __version__
from lmexp.config.compose import compose
from lmexp.config.options import description, list_groups
from lmexp.config.store import from_yaml
from lmexp.runs import RunFolder

with warnings.catch_warnings():  # typer takes names from click that click calls deprecated
    warnings.simplefilter("ignore", DeprecationWarning)
    from click.testing import Result
    from typer.testing import CliRunner

    from lmexp.cli import app

pytestmark = pytest.mark.usefixtures("folder")


def lmexp(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def assert_is_for_people(result: Result, code: int = 2) -> None:
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)


def finished_run(project: str = "lmexp", name: str = "transformer-python_docs-0123456789ab") -> RunFolder:
    run = RunFolder(Path("outputs") / project / name)
    run.create(compose())
    run.update(id=name, status="done", created="2026-01-02T03:04:05+00:00", step=10, metrics={"val/loss_nats": 1.5})
    return run


# Help


def test_version_is_printed() -> None:
    result = lmexp("--version")
    assert (result.exit_code, result.output) == (0, f"lmexp {__version__}\n")


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_lists_every_command_with_a_whole_sentence(flag: str) -> None:
    result = lmexp(flag)
    assert result.exit_code == 0
    for command in ("train", "generate", "runs", "explain"):
        assert f"\n  {command} " in result.output
    assert "..." not in result.output.split("Commands:")[1].split("\n\n")[0]


def test_nothing_shows_the_help() -> None:
    assert "Commands:" in lmexp().output


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_the_help_of_train_lists_every_group_and_option_with_a_line(flag: str) -> None:
    result = lmexp("train", flag)
    assert result.exit_code == 0
    lines = [" ".join(line.split()) for line in result.output.splitlines()]
    for group, options in list_groups("train").items():
        assert any(line.startswith(f"{group}: ") for line in lines)
        for option in options:
            text = description(group, option)
            assert text
            assert f"{option} {text}" in lines or f"{option} (default) {text}" in lines


def test_the_help_of_train_begins_with_the_default_of_each_group() -> None:
    output = lmexp("train", "--help").output
    assert "model: What is trained.\n  transformer (default)  " in output
    assert output.index("\ndata: ") < output.index("\nmodel: ") < output.index("\ndebug: ")


# train


def test_cfg_job_prints_yaml_that_reads_back_as_the_config(folder: Path) -> None:
    lines = ("model=lstm_tiny", "seed=3", "logger.notes='a: \"b\" #'")
    result = lmexp("train", *lines, "--cfg", "job")
    assert result.exit_code == 0
    (folder / "config.yaml").write_text(result.output)
    assert from_yaml(folder / "config.yaml") == compose("train", lines)
    assert not (folder / "outputs").exists()


def test_a_config_error_is_said_in_full_with_exit_code_2() -> None:
    result = lmexp("train", "model.hiden_size=3", "trainer.accumulate=0")
    assert_is_for_people(result)
    assert result.output == (
        "error:\n"
        "  model.hiden_size: there is no such key; did you mean model.hidden_size?\n"
        "  trainer.accumulate: must be at least 1, not 0\n"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--fast"], "error: unknown option --fast; see lmexp train --help\n"),
        (["seed=1", "-x", "--y=3"], "error: unknown option -x --y=3; see lmexp train --help\n"),
        (["--cfg", "all"], "error: unknown option --cfg all; see lmexp train --help\n"),
        (
            ["-m", "--cfg", "job", "seed=1,2"],
            "error: --cfg job prints the config of one run: leave out -m and the values of the sweep\n",
        ),
        (["seed=1,2"], "error: seed: is a sweep over several values: add -m, or write a list as [a,b]\n"),
        (["-m", "seed=0,-1"], "error: seed: must be at least 0, not -1\n"),
        (["--plugin", "no_such_module"], "error: --plugin: 'no_such_module' cannot be imported: No module named "),
    ],
)
def test_what_train_cannot_do_is_an_error_with_a_way_out(arguments: Sequence[str], message: str) -> None:
    result = lmexp("train", *arguments)
    assert_is_for_people(result)
    assert result.output.startswith(message)


def test_the_option_of_a_plug_in_is_in_the_help(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lmexp.config.schema import OPTIONS

    monkeypatch.setitem(OPTIONS, "task", dict(OPTIONS["task"]))
    (folder / "plugin_for_help.py").write_text(
        "from dataclasses import dataclass\nfrom lmexp.config.task import TaskConfig\n\n"
        "@dataclass(kw_only=True)\nclass MineConfig(TaskConfig):\n"
        '    """A task of my own."""\n\n    name = "mine"\n    builds = "plugin_for_help:Mine"\n'
    )
    assert (
        "  mine                A task of my own.\n" in lmexp("train", "--plugin", "plugin_for_help.py", "--help").output
    )
    sys.modules.pop("plugin_for_help")


def test_a_run_to_go_on_with_that_is_not_there_is_said() -> None:
    result = lmexp("train", "resume=no-such-run", "--cfg", "job")
    assert_is_for_people(result)
    message = "error: no run is called 'no-such-run' below outputs/; there is none yet: lmexp train\n"
    assert result.output == message


def test_a_run_to_go_on_with_may_be_a_part_of_its_name_and_live_in_another_folder(folder: Path) -> None:
    run = finished_run()
    assert f"resume: {run.path}\n" in lmexp("train", "resume=0123", "--cfg", "job").output
    (folder / "outputs").rename(folder / "a, [b]")
    result = lmexp("train", "resume=0123", "output_dir='a, [b]'", "--cfg", "job")
    assert f"resume: a, [b]/lmexp/{run.path.name}\n" in result.output.replace("'", "")


# runs, generate, explain


def test_runs_without_runs_says_what_to_do() -> None:
    result = lmexp("runs")
    assert (result.exit_code, result.output) == (0, "no runs below outputs/ yet: lmexp train\n")
    assert json.loads(lmexp("runs", "--json").output) == []


def test_runs_lists_what_is_there() -> None:
    run = finished_run()
    assert run.path.name in lmexp("runs").output
    [row] = json.loads(lmexp("runs", "--json").output)
    assert (row["status"], row["metrics"], row["path"]) == ("done", {"val/loss_nats": 1.5}, str(run.path))


def test_generate_without_runs_says_so() -> None:
    result = lmexp("generate", "nothing")
    assert_is_for_people(result)
    assert result.output == "error: no run is called 'nothing' below outputs/; there is none yet: lmexp train\n"


def test_generate_refuses_values_out_of_range() -> None:
    result = lmexp("generate", "nothing", "--temperature", "-1")
    assert_is_for_people(result)
    assert "Invalid value for '--temperature': -1.0 is not in the range x>=0." in result.output


def test_an_unknown_command_or_option_names_the_nearest() -> None:
    result = lmexp("trian")
    assert_is_for_people(result)
    assert "No such command 'trian'. Did you mean" in result.output
    result = lmexp("runs", "--jsn")
    assert_is_for_people(result)
    assert "No such option" in result.output
    assert "--json" in result.output


def test_explain_prints_and_refuses_like_everything_else() -> None:
    assert lmexp("explain", "seed").output.startswith("seed: a whole number, default 0, at least 0\n  Draws the ")
    result = lmexp("explain", "sede")
    assert_is_for_people(result)
    assert result.output == "error: sede: there is no such key; did you mean seed?\n"


# The budget

# Seconds of the processor, the start of Python included: the machine may be busy with other things.
LIGHT = """
import sys, time
from lmexp.cli import app
try:
    app(sys.argv[1:])
except SystemExit as exit:
    code = exit.code
heavy = {"torch", "pytorch_lightning", "wandb", "numpy", "sentencepiece"} & set(sys.modules)
print("RESULT", code, time.process_time(), *sorted(heavy))
"""


@pytest.mark.parametrize(
    ("arguments", "code"), [(["--help"], 0), (["train", "model.hiden_size=3", "seed=-1"], 2)], ids=["help", "error"]
)
def test_help_and_config_errors_import_nothing_heavy_and_take_less_than_a_second(
    arguments: list[str], code: int
) -> None:
    seconds = []
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", LIGHT, *arguments], capture_output=True, text=True, check=True)
        result = done.stdout.splitlines()[-1].split()
        assert result[:2] == ["RESULT", str(code)]
        assert result[3:] == []
        seconds.append(float(result[2]))
        if seconds[-1] < 1:
            break
    assert min(seconds) < 1
