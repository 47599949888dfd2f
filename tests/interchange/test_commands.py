"""lmexp export, import, evaluate and train init_from=, as a person types them."""

import json
import warnings
from pathlib import Path

import pytest

from lmexp.runs import list_runs
from tests.interchange.setups import CONFIGS, LSTMS, made_run

with warnings.catch_warnings():  # typer takes names from click that click calls deprecated
    warnings.simplefilter("ignore", DeprecationWarning)
    from click.testing import Result
    from typer.testing import CliRunner

    from lmexp.cli import app

pytestmark = pytest.mark.usefixtures("folder")


def lmexp(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def error_of(*arguments: str) -> str:
    result = lmexp(*arguments)
    assert result.exit_code == 2, result.output
    assert result.output.startswith("error: ")
    assert result.output.count("\n") == 1
    return result.output


def test_a_model_goes_out_comes_in_is_measured_and_trained_further(text_file: Path) -> None:
    made_run(CONFIGS["gpt2 as published"])
    result = lmexp("export", "made", "--out", "out")
    assert (result.exit_code, result.output) == (0, "out\n")
    result = lmexp("import", "out", "--name", "back", "--project", "zoo")
    [run] = [run for run in list_runs() if run.record.get("name") == "back"]
    assert result.exit_code == 0
    assert result.output.startswith(f"imported {run.path}\n  GPT2LMHeadModel, ")
    assert f"init_from={run.path.name} " in result.output
    assert lmexp("import", "out", "--name", "back", "--project", "zoo").output.startswith("is there already: ")
    data = ("data=text", f"data.path={text_file}", "data.context_length=16")
    result = lmexp("evaluate", "back", *data, "--json")
    assert result.exit_code == 0, result.output
    measured = json.loads(result.output)
    table = lmexp("evaluate", "back", *data).output
    assert f"{measured['metrics']['test/loss_nats']:.4f}" in table
    quiet = ("logger=none", "trainer.progress_bar=false", "callbacks.samples.prompts=[]", "optimizer=adamw")
    result = lmexp("train", "init_from=back", *data, "trainer.max_steps=2", *quiet)
    assert result.exit_code == 0, result.output
    [tuned] = [run for run in list_runs() if run.record.get("init_from")]
    assert tuned.record["init_from"]["id"] == run.record["id"]


def test_what_cannot_be_done_is_one_line() -> None:
    assert error_of("import", "nowhere").startswith("error: nowhere: nothing is there; give a folder with config.json")
    assert error_of("export", "nothing", "--out", "out").startswith("error: no run is called 'nothing'")
    assert error_of("evaluate", "nothing").startswith("error: no run is called 'nothing'")
    assert error_of("train", "init_from=nothing").startswith("error: no run is called 'nothing'")
    made_run(LSTMS["lstm"])
    assert "lmexp export RUN --to safetensors" in error_of("export", "made", "--out", "out")
    assert (
        error_of("export", "made", "--out", "out", "--to", "onnx") == "error: --to onnx: there is hf and safetensors\n"
    )
    assert error_of("evaluate", "made", "data.batch_sise=3").endswith("did you mean data.batch_size?\n")
    assert error_of("train", "init_from=made", "model=gpt2").startswith("error: model: comes from outputs/lmexp/made")


def test_a_sweep_begins_every_trial_with_the_run(text_file: Path) -> None:
    from lmexp.config.compose import compose_trials
    from lmexp.config.extend import with_source

    run = made_run(CONFIGS["qwen3"])
    given = [f"init_from={run.path}", "data=text", f"data.path={text_file}", "seed=0,1", "model.dropout=0,0.1"]
    trials = compose_trials("train", with_source(given))
    assert [(trial.model.hidden_size, trial.seed, trial.model.dropout) for trial in trials] == [
        (16, 0, 0.0),
        (16, 1, 0.0),
        (16, 0, 0.1),
        (16, 1, 0.1),
    ]
    assert {trial.tokenizer.name for trial in trials} == {"file"}
