"""A run becomes a folder that others read: whole, described, and never over something that is there."""

import json
import math
import shlex
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from lmexp import compose, train
from lmexp.checkpoints import load_run
from lmexp.config.model import (
    EncoderConfig,
    EncoderDecoderConfig,
    LSTMAttentionConfig,
    TransformerConfig,
    TransformerFastConfig,
)
from lmexp.config.pretrained import HFConfig
from lmexp.errors import ConfigError, RunError, StorageError
from lmexp.interchange.equations import equations
from lmexp.interchange.exporting import export
from tests.interchange.setups import CONFIGS, LSTMS, SMALL, made_run, our_logits, random_tokens, transformers
from tests.training.setups import TINY

pytestmark = pytest.mark.usefixtures("folder")


def test_the_folder_has_what_transformers_looks_for() -> None:
    run = made_run(CONFIGS["gpt2 as nanogpt has it"])
    out = export(run.path, "out")
    assert {path.name for path in out.iterdir()} == {
        "README.md",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    ours = load_run(run.path).tokenizer
    theirs = transformers.AutoTokenizer.from_pretrained(out, local_files_only=True)
    text = "The fox 42\n  \U0001f98a é"
    assert theirs(text, add_special_tokens=False).input_ids == ours.encode(text).tolist()
    assert theirs.eos_token_id == ours.end_of_document_id
    settings = transformers.GenerationConfig.from_pretrained(out)
    assert settings.eos_token_id == ours.end_of_document_id


def test_transformers_continues_a_text_as_we_do() -> None:
    run = made_run(CONFIGS["qwen3"])
    out = export(run.path, "out")
    model = transformers.AutoModelForCausalLM.from_pretrained(out, local_files_only=True)
    tokens = random_tokens(200, rows=1, length=8)
    theirs = model.generate(tokens, max_new_tokens=12, do_sample=False, eos_token_id=None)
    ours = tokens
    for _ in range(12):
        ours = torch.cat((ours, our_logits(run, ours)[:, -1:].argmax(-1)), dim=1)
    assert theirs.tolist() == ours.tolist()


@pytest.mark.parametrize("kind", LSTMS)
def test_the_description_of_an_lstm_is_enough_to_write_a_reader(kind: str) -> None:
    run = made_run(LSTMS[kind])
    out = export(run.path, "out", to="safetensors")
    content = json.loads((out / "model.json").read_text())
    assert content["equations"] == equations(LSTMS[kind])
    tensors = load_file(out / "model.safetensors")
    assert {name: list(tensor.shape) for name, tensor in tensors.items()} == content["tensors"]
    tokens = random_tokens(content["sizes"]["vocab_size"], rows=1, length=12)
    expected = our_logits(run, tokens)[0].log_softmax(-1).numpy()
    np.testing.assert_allclose(read_lstm(content, tensors, tokens[0].tolist()), expected, rtol=1e-4, atol=1e-4)
    tokenizer = load_run(run.path).tokenizer
    assert [content["vocabulary"][i] for i in tokenizer.encode("The fox").tolist()] == list("The fox")
    assert content["end_of_document_id"] == tokenizer.end_of_document_id


def read_lstm(content: dict, tensors: dict[str, np.ndarray], tokens: list[int]) -> np.ndarray:
    """Return log-probabilities by the equations of model.json alone, without lmexp and torch."""
    tensors = tensors | {name: tensors[same] for name, same in content["tied"].items()}
    layers, size = content["sizes"]["num_layers"], content["sizes"]["hidden_size"]
    h, c = np.zeros((layers, size)), np.zeros((layers, size))
    rows = []
    for i in tokens:
        x = tensors["embedding.weight"][i].astype(np.float64)
        for n in range(layers):
            name = f"layers.{n}."
            a = tensors[f"{name}weight_ih_l0"] @ x + tensors[f"{name}bias_ih_l0"]
            a += tensors[f"{name}weight_hh_l0"] @ h[n] + tensors[f"{name}bias_hh_l0"]
            a_i, a_f, a_g, a_o = np.split(a, 4)
            c[n] = sigmoid(a_f) * c[n] + sigmoid(a_i) * np.tanh(a_g)
            h[n] = sigmoid(a_o) * np.tanh(c[n])
            x = h[n]
        if "projection.weight" in tensors:
            x = tensors["projection.weight"] @ x
        rows.append(log_probabilities(content, tensors, x))
    return np.array(rows)


def log_probabilities(content: dict, tensors: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    scores = tensors["head.weight"] @ x + tensors.get("head.bias", 0)
    if "head.group_weight" not in tensors:
        return log_softmax(scores)
    cuts = [*content["config"]["adaptive_cutoffs"], len(scores)]
    groups = tensors["head.group_weight"] @ x + tensors["head.group_bias"]
    first = log_softmax(np.concatenate((scores[: cuts[0]], groups)))
    parts = [first[cuts[0] + g] + log_softmax(scores[s:e]) for g, (s, e) in enumerate(pairwise(cuts))]
    return np.concatenate((first[: cuts[0]], *parts))


def sigmoid(a: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-a))


def log_softmax(a: np.ndarray) -> np.ndarray:
    return a - a.max() - math.log(np.exp(a - a.max()).sum())


OTHERS = [EncoderConfig(**SMALL), EncoderDecoderConfig(**SMALL), TransformerFastConfig(**SMALL)]


@pytest.mark.parametrize("config", [*CONFIGS.values(), *OTHERS])
def test_every_tensor_of_a_model_is_in_its_equations(config: TransformerConfig) -> None:
    text = " ".join(equations(config))
    run = made_run(config)
    content = json.loads((export(run.path, "out", to="safetensors") / "model.json").read_text())
    for name in content["tensors"]:
        words = [word for word in name.split(".") if not word.isdigit() and word not in ("weight", "bias")]
        assert words[-1] in text, name


@pytest.mark.parametrize("config", [LSTMS["lstm"], LSTMAttentionConfig(**SMALL), *OTHERS[::2]])
def test_a_model_without_a_counterpart_is_refused_with_a_way_out(config: LSTMAttentionConfig) -> None:
    run = made_run(config)
    with pytest.raises(ConfigError, match=rf"^model={config.name} has no counterpart in transformers; .*safetensors"):
        export(run.path, "out")
    assert [path.name for path in Path().iterdir()] == ["outputs"]
    assert (export(run.path, "out", to="safetensors") / "model.json").is_file()


def test_nothing_is_written_over(folder: Path) -> None:
    run = made_run(CONFIGS["llama"])
    (folder / "full").mkdir()
    (folder / "full" / "mine.txt").write_text("mine")
    (folder / "file").write_text("mine")
    for name in ("full", "file"):
        with pytest.raises(RunError, match=rf"^{name} is there already and not empty; give a new folder$"):
            export(run.path, name)
    assert [path.name for path in (folder / "full").iterdir()] == ["mine.txt"]
    (folder / "empty").mkdir()
    assert (export(run.path, "empty") / "config.json").is_file()
    assert (export(run.path, "a/b/c") / "config.json").is_file()


def test_a_folder_that_cannot_be_made_is_said(folder: Path) -> None:
    run = made_run(CONFIGS["llama"])
    (folder / "file").write_text("mine")
    with pytest.raises(StorageError, match=r"file/out: Not a directory; choose another folder$"):
        export(run.path, "file/out")


def test_the_model_card_has_what_the_record_knows(text_file: Path) -> None:
    command = ["train", "model=gpt2", "data.path=a b.txt"]
    run = train(compose("train", [*TINY, f"data.path={text_file}", "model=gpt2", "optimizer=adamw"]), command=command)
    card = (export(run.path, "out") / "README.md").read_text()
    record = run.record
    for part in (
        record["data_fingerprint"],
        f"{record['parameters']:,} parameters",
        f"{record['tokens']:,}",
        f"{record['metrics']['val/loss_nats']:.4f}",
        f"{record['metrics']['test/perplexity']:.4f}",
        "- seed: 0",
        "- checkpoint: step 12 of 12",
        f"lmexp {shlex.join(command)}",
        'AutoModelForCausalLM.from_pretrained("out")',
        "lmexp import out",
        "## Licence\n\nNone is stated.",
    ):
        assert part in card, part
    assert "None\n" not in card.replace("None is stated", "")


def test_adapters_are_merged(text_file: Path) -> None:
    config = compose(
        "train", [*TINY, f"data.path={text_file}", "model=transformer_tiny", "optimizer=adamw", "model.lora.rank=2"]
    )
    run = train(config)
    out = export(run.path, "out")
    model = transformers.AutoModelForCausalLM.from_pretrained(out, local_files_only=True)
    tokens = random_tokens(250, length=12)
    with torch.no_grad():
        torch.testing.assert_close(model(tokens).logits, our_logits(run, tokens), rtol=1e-5, atol=1e-5)


def test_a_model_of_transformers_goes_out_as_it_came_in_with_what_it_learned(folder: Path, text_file: Path) -> None:
    source = export(made_run(CONFIGS["llama, grouped queries, untied"]).path, "source")
    lines = ["model=hf", f"model.name_or_path={source}", "tokenizer=hf", "model.lora.rank=2", "optimizer=adamw"]
    shape = [line for line in TINY if not line.startswith(("model.", "tokenizer="))]
    run = train(compose("train", [*shape, f"data.path={text_file}", *lines, "optimizer.learning_rate=0.1"]))
    assert isinstance(run.config.model, HFConfig)
    model = transformers.AutoModelForCausalLM.from_pretrained(export(run.path, "out"), local_files_only=True)
    before = transformers.AutoModelForCausalLM.from_pretrained(source, local_files_only=True)
    tokens = random_tokens(250, length=12)
    with torch.no_grad():
        torch.testing.assert_close(model(tokens).logits, our_logits(run, tokens), rtol=1e-5, atol=1e-5)
        assert (model(tokens).logits - before(tokens).logits).abs().max() > 1e-3
    with pytest.raises(ConfigError, match="is not built here; lmexp export RUN --to hf"):
        export(run.path, "other", to="safetensors")
