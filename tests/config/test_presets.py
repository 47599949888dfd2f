"""Every file in conf/ composes, builds, explains itself, and gives the values that were agreed on.

The agreed values are tests/golden/configs; after a change that is meant, write them again with:

    LMEXP_UPDATE_GOLDEN=1 pytest tests/config/test_presets.py
"""

import dataclasses
import json
import os
from itertools import zip_longest
from pathlib import Path

import pytest
import torch

from lmexp.config import callbacks
from lmexp.config.compose import CONF, compose
from lmexp.config.data import Content
from lmexp.config.explain import field_texts
from lmexp.config.model import Kind
from lmexp.config.options import default_options
from lmexp.config.prepare import compose_preparation
from lmexp.config.schema import OPTIONS, Settings, build, built_class
from lmexp.config.store import to_yaml
from lmexp.config.table import PAGE, page
from lmexp.config.train import TrainConfig

FILES = sorted(path.relative_to(CONF).with_suffix("").as_posix() for path in CONF.rglob("*.yaml"))
EXPERIMENTS = [name for name in FILES if name.startswith("experiment/")]
GROUPS = [[n for n in FILES if n.startswith(f"{g}/")] for g in OPTIONS if g in default_options("train")]
ROUNDS = [[name for name in names if name] for names in zip_longest(*GROUPS)]
"""One option of every group at a time, for each composition takes a quarter of a second."""

GOLDEN = Path(__file__).parents[1] / "golden" / "configs"

pytestmark = pytest.mark.usefixtures("folder")


FILES_OF_YOURS = ["data/text", "data/chat", "data/preferences", "data/labelled", "data/pairs"]
NEEDS = dict.fromkeys([*FILES_OF_YOURS, *EXPERIMENTS], "data.path=text.txt") | {
    **dict.fromkeys(["experiment/sft_demo", "experiment/classify_demo", "experiment/seq2seq_demo"], "seed=0"),
    "model/hf": "model.name_or_path=pretrained",
    "tokenizer/hf": "tokenizer.name_or_path=pretrained",
    "tokenizer/file": "tokenizer.path=pretrained/tokenizer.json",
    "trainer/fsdp": "optimizer=adamw",
}
"""What an option must be given."""


def composed(*names: str) -> TrainConfig:
    """Return the config in which files are chosen, with what they ask for: a text, a folder with a model."""
    Path("text.txt").write_text("text")
    Path("pretrained").mkdir(exist_ok=True)
    sizes = {"n_embd": 16, "n_layer": 1, "n_head": 2, "vocab_size": 300}
    Path("pretrained/config.json").write_text(json.dumps({"model_type": "gpt2"} | sizes))
    for name in ("model.safetensors", "tokenizer.json"):
        Path("pretrained", name).touch()
    return compose("train", [*(name.replace("/", "=") for name in names), *(NEEDS[n] for n in names if n in NEEDS)])


@pytest.mark.parametrize("name", FILES)
def test_a_file_begins_with_one_line_that_describes_it_and_is_short(name: str) -> None:
    lines = (CONF / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    if lines[0] == "# @package _global_":
        del lines[0]
    assert lines[0].startswith("# ")
    assert lines[0].endswith(".") or lines[0].endswith("?")
    assert len(lines) <= 40


@pytest.mark.parametrize("names", ROUNDS, ids=" ".join)
def test_every_option_composes_and_what_needs_no_data_can_be_built(
    names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lmexp.config.trainer.count_gpus", lambda: 1)
    for task in OPTIONS["task"].values():  # a round takes what comes together: which task fits which model is no matter
        monkeypatch.setattr(task, "fits", tuple(Kind))
        monkeypatch.setattr(task, "reads", Content.text)
    for data in OPTIONS["data"].values():
        monkeypatch.setattr(data, "content", Content.text)
    config = composed(*names)
    with torch.device("meta"):
        model = build(config.model, vocab_size=300, context_length=16)
    assert sum(parameter.numel() for parameter in model.parameters()) > 0
    assert build(config.optimizer, model=model).param_groups
    assert 0 < build(config.schedule, max_steps=10, tokens_per_step=16)(0) <= 1


@pytest.mark.parametrize("name", [name.split("/")[1] for name in FILES if name.startswith("corpus/")])
def test_every_corpus_composes(name: str) -> None:
    source = "corpus.dataset=pages" if name == "dataset" else "corpus.path=pages"
    config = compose_preparation([f"corpus={name}", source, "out=made"])
    assert config.corpus.split.val_fraction == 0.05
    assert f"name: {config.corpus.name}" in to_yaml(config)


def test_what_an_option_builds_can_be_imported() -> None:
    for options in OPTIONS.values():
        assert all(callable(built_class(option())) for option in options.values())


def every_dataclass(schema: type = Settings) -> list[type]:
    return [schema, *(inner for child in schema.__subclasses__() for inner in every_dataclass(child))]


def test_every_field_has_a_text_under_it() -> None:
    ours = [schema for schema in every_dataclass() if schema.__module__.startswith("lmexp.")]
    assert callbacks.SamplesConfig in ours
    fields = {(schema.__name__, field.name) for schema in ours for field in dataclasses.fields(schema)}
    explained = {(schema.__name__, name) for schema in ours for name in field_texts(schema)}
    assert fields <= explained


@pytest.mark.parametrize("name", ["train", *EXPERIMENTS])
def test_the_resolved_config_is_the_agreed_one(name: str) -> None:
    golden = GOLDEN / f"{name.removeprefix('experiment/')}.yaml"
    text = to_yaml(composed(*([] if name == "train" else [name])))
    if os.environ.get("LMEXP_UPDATE_GOLDEN"):
        golden.parent.mkdir(parents=True, exist_ok=True)
        golden.write_text(text, encoding="utf-8")
    again = "is it meant? LMEXP_UPDATE_GOLDEN=1 pytest tests/config/test_presets.py"
    assert golden.is_file(), again
    assert text == golden.read_text(encoding="utf-8"), again


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("debug/")])
def test_a_debug_overlay_goes_with_an_experiment(name: str) -> None:
    assert composed(EXPERIMENTS[0], name).project == "debug"


def test_no_agreed_config_is_left_over() -> None:
    assert {path.stem for path in GOLDEN.glob("*.yaml")} == {name.split("/")[-1] for name in ["train", *EXPERIMENTS]}


def test_the_reference_page_is_fresh() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "docs/config.md is stale: python -m lmexp.config.table"
