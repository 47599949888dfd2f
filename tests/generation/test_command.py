"""lmexp generate, as a person types it."""

import dataclasses
import json
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from lmexp import checkpoints, train
from lmexp.config.data import PythonDocsConfig
from lmexp.config.model import EncoderConfig, GPT2Config, Kind, LSTMConfig, ModelConfig
from lmexp.config.task import MaskedConfig, PretrainConfig
from lmexp.config.tokenizer import CharactersConfig
from lmexp.config.train import TrainConfig
from lmexp.generation.forms import Continuation
from lmexp.generation.sampling import Sampling
from lmexp.generation.text import complete
from lmexp.models.adapters import build_model
from lmexp.runs import RunFolder
from lmexp.tokenization import learn
from tests.generation.setups import LETTERS
from tests.training.setups import KINDS, tiny

with warnings.catch_warnings():  # typer takes names from click that click calls deprecated
    warnings.simplefilter("ignore", DeprecationWarning)
    from click.testing import Result
    from typer.testing import CliRunner

    from lmexp.cli import app

pytestmark = pytest.mark.usefixtures("folder")
GPT2 = GPT2Config(num_layers=2, hidden_size=16)


def a_run(model: ModelConfig = GPT2, *, has_end: bool = True) -> RunFolder:
    """Return a finished run called made, with 28 characters and a context of 16."""
    config = TrainConfig(
        name="made",
        model=dataclasses.replace(model),
        data=PythonDocsConfig(context_length=16),
        tokenizer=CharactersConfig(byte_fallback=False, end_of_document=has_end),
        task=MaskedConfig() if model.kind is Kind.encoder else PretrainConfig(),
    )
    tokenizer = learn(config.tokenizer, [LETTERS])
    torch.manual_seed(0)
    built = build_model(config, tokenizer)
    with torch.no_grad():
        for weight in built.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.3)
    run = RunFolder(Path("outputs") / "lmexp" / "made")
    run.create(config)
    tokenizer.save(run.tokenizer)
    checkpoints.write(run.checkpoints / "step-000007", built.state_dict())
    run.update(id="made", status="done", step=7, tokenizer_hash=tokenizer.hash)
    return run


def generate(*arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(app, ["generate", "made", *arguments], input=stdin)


def output_of(*arguments: str, stdin: str | None = None) -> str:
    result = generate(*arguments, stdin=stdin)
    assert result.exit_code == 0, result.output
    return result.output


def expected(prompts: Sequence[str], num_samples: int = 1, **sampling: Any) -> list[Any]:
    loaded = checkpoints.load_run("made")
    return list(
        complete(loaded.model, Continuation(loaded.tokenizer), prompts, Sampling(**sampling), num_samples=num_samples)
    )


@pytest.mark.parametrize("model", [GPT2, LSTMConfig(num_layers=1, hidden_size=16)], ids=["gpt2", "lstm"])
def test_one_text_many_texts_and_json_say_the_same(model: ModelConfig) -> None:
    a_run(model)
    settings = ("--max-tokens", "20", "--temperature", "1.2", "--seed", "3")
    [cat, dog] = expected(["the cat", "a dog"], max_tokens=20, temperature=1.2, seed=3)
    assert output_of("--prompt", "the cat", *settings) == f"the cat{cat.text}\n"
    both = output_of("--prompt", "the cat", "--prompt", "a dog", *settings)
    assert both == f"the cat{cat.text}\n\na dog{dog.text}\n"
    lines = output_of("--prompt", "the cat", "--prompt", "a dog", *settings, "--json").splitlines()
    assert [json.loads(line) for line in lines] == [cat.as_dict(), dog.as_dict()]
    assert set(json.loads(lines[0])) == {"prompt", "text", "tokens", "seed", "finish_reason"}


def test_samples_have_the_seeds_from_the_given_one_on_and_batches_change_nothing() -> None:
    a_run()
    arguments = ("--prompt", "hello", "--prompt", "a", "--num-samples", "3", "--seed", "5", "--json", "--min-p", "0.01")
    lines = output_of(*arguments, "--max-tokens", "30")
    assert lines == output_of(*arguments, "--max-tokens", "30", "--batch-size", "2")
    rows = [json.loads(line) for line in lines.splitlines()]
    assert [(row["prompt"], row["seed"]) for row in rows] == [(p, s) for p in ("hello", "a") for s in (5, 6, 7)]
    assert rows == [one.as_dict() for one in expected(["hello", "a"], 3, max_tokens=30, min_p=0.01, seed=5)]


def test_prompts_come_from_a_file_or_from_stdin(folder: Path) -> None:
    a_run()
    (folder / "prompts.txt").write_text("hello\nthe cat\n")
    (folder / "prompts.jsonl").write_text('{"prompt": "hello"}\n{"prompt": "the cat"}\n')
    outputs = {
        output_of("--prompts-file", "prompts.txt", "--json"),
        output_of("--prompts-file", "prompts.jsonl", "--json"),
        output_of("--prompts-file", "-", "--json", stdin="hello\nthe cat\n"),
        output_of("--prompt", "hello", "--prompt", "the cat", "--json"),
    }
    assert len(outputs) == 1


def test_without_a_prompt_a_document_begins() -> None:
    a_run()
    [one] = expected([""], max_tokens=9)
    assert output_of("--max-tokens", "9") == one.text + "\n"


def test_beams_are_searched_without_a_temperature_and_the_best_come_first() -> None:
    a_run()
    lines = output_of("--prompt", "a", "--num-beams", "4", "--num-samples", "2", "--json", "--length-penalty", "0.5")
    rows = [json.loads(line) for line in lines.splitlines()]
    assert rows == [one.as_dict() for one in expected(["a"], 2, num_beams=4, temperature=0, length_penalty=0.5)]
    assert rows[0]["score"] >= rows[1]["score"]
    assert output_of("--prompt", "a", "--num-beams", "4", "--length-penalty", "0.5") == "a" + rows[0]["text"] + "\n"


def test_a_text_stops_before_what_it_is_told() -> None:
    a_run()
    [whole] = expected(["a"], max_tokens=30, temperature=0)
    stop = whole.text[3:5]
    output = output_of("--prompt", "a", "--max-tokens", "30", "--temperature", "0", "--stop", "XY", "--stop", stop)
    assert output == "a" + whole.text[: whole.text.index(stop)] + "\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--prompt", "a" * 17], f"the prompt '{'a' * 17}' has 17 tokens, and the model reads at most 16: shorten it"),
        (["--prompt", ""], "--prompt is empty; leave it out to begin a new document"),
        (
            ["--prompt", "É"],
            "the prompt 'É': 'É' (U+00C9) is not in the training split; "
            "set tokenizer.byte_fallback=true to spell such characters in bytes",
        ),
        (
            [],
            "the prompt '': it is empty, and this tokenizer has no token to begin a text with; write a character",
        ),
        (["--prompts-file", "none"], "none: the prompts cannot be read: No such file or directory"),
        (["--prompts-file", "bad.jsonl"], 'bad.jsonl, line 2: no text under the key "prompt"; write {"prompt": "..."}'),
        (["--stop", ""], "stop: is empty; give the text to stop at, or leave it out"),
        (["--repetition-penalty", "0"], "repetition_penalty: must be above 0, not 0.0"),
        (
            ["--num-beams", "3", "--temperature", "0.5", "--top-k", "3"],
            "num_beams: beam search draws nothing at random: leave out temperature and top_k",
        ),
        (["--num-beams", "2", "--num-samples", "3"], "num_samples: 2 beams give at most as many texts"),
        (
            ["--temperature", "0", "--num-samples", "2"],
            "num_samples: at temperature 0 all texts are alike; give a temperature, or num_beams",
        ),
        (["--length-penalty", "2"], "length_penalty: is for beam search: give num_beams too"),
        (["--checkpoint", "step-9"], "outputs/lmexp/made has no checkpoint 'step-9'; it has: step-000007"),
    ],
)
def test_what_cannot_be_done_is_one_line(folder: Path, arguments: list[str], message: str) -> None:
    a_run(has_end=False)
    (folder / "bad.jsonl").write_text('{"prompt": "a"}\n{"text": "b"}\n')
    result = generate(*arguments)
    assert (result.exit_code, result.output) == (2, f"error: {message}\n")


@pytest.mark.parametrize("option", [["--top-k", "0"], ["--top-p", "1.1"], ["--min-p", "-0.1"], ["--num-beams", "0"]])
def test_an_option_out_of_range_is_said_with_its_name(option: list[str]) -> None:
    result = generate(*option)
    assert result.exit_code == 2
    assert f"Invalid value for '{option[0]}'" in result.output


def test_a_model_that_cannot_go_on_with_a_text_says_what_it_can() -> None:
    a_run(EncoderConfig(num_layers=1, hidden_size=16))
    result = generate("--prompt", "a")
    assert (result.exit_code, result.output) == (
        2,
        "error: made: its model (encoder) reads both ways: it fills in masked tokens and gives features, and cannot "
        "write texts; choose a run of a decoder (see lmexp runs), or measure this one: lmexp evaluate\n",
    )


def test_a_run_that_has_learned_pairs_writes_a_line_for_each_source(folder: Path, text_file: Path) -> None:
    run = train(tiny(text_file, *KINDS["encoder_decoder"]))
    (folder / "sources.txt").write_text("the cat\na dog ran\nthe\n")
    given = [run.path.name, "--prompts-file", "sources.txt", "--max-tokens", "6"]
    one = CliRunner().invoke(app, ["generate", *given])
    assert (one.exit_code, len(one.output.splitlines())) == (0, 3)
    beams = CliRunner().invoke(app, ["generate", *given, "--num-beams", "3", "--json"])
    found = [json.loads(line) for line in beams.output.splitlines()]
    assert [row["prompt"] for row in found] == ["the cat", "a dog ran", "the"]
    assert all("score" in row for row in found)


def test_a_run_that_has_learned_labels_tells_them(folder: Path, text_file: Path) -> None:
    run = train(tiny(text_file, *KINDS["lstm that tells labels"]))
    result = CliRunner().invoke(app, ["generate", run.path.name, "--prompt", "the cat", "--prompt", "a dog ran"])
    assert result.exit_code == 0
    told = r"(long|short)  \((long|short) [\d.]+%, (long|short) [\d.]+%\)"
    assert all(re.fullmatch(told, line) for line in result.output.splitlines())
    as_json = CliRunner().invoke(app, ["generate", run.path.name, "--prompt", "the cat", "--json"])
    found = json.loads(as_json.output)
    assert (found["prompt"], set(found["probabilities"])) == ("the cat", {"long", "short"})
    nothing = CliRunner().invoke(app, ["generate", run.path.name])
    assert (nothing.exit_code, nothing.output.count("\n")) == (2, 1)
    refused = CliRunner().invoke(app, ["chat", run.path.name])
    assert refused.exit_code == 2
    assert "tells labels, and cannot write texts" in refused.output
