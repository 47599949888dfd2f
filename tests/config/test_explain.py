"""`lmexp explain` says what the dataclass says."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from lmexp.config.explain import explain, field_texts, groups_and_options
from lmexp.config.model import ModelConfig
from lmexp.config.options import default_options
from lmexp.config.schema import OPTIONS
from lmexp.errors import ConfigError
from tests.config.setups import MODELS, own


def test_a_key_has_type_default_range_text_and_place() -> None:
    assert explain("callbacks.samples.temperature") == (
        "callbacks.samples.temperature: a number, default 0.8, at least 0\n"
        "  0 takes the likeliest token; 1 samples from the model as it is.\n"
        "  (lmexp/config/callbacks.py, SamplesConfig)"
    )


def test_a_choice_names_what_can_be_chosen_and_null() -> None:
    first = explain("trainer.profiler").split("\n")[0]
    assert first == "trainer.profiler: one of simple, advanced, pytorch or null, default null"
    assert explain("trainer.precision").startswith("trainer.precision: a text, default 32, one of 32, bf16-mixed\n")
    assert explain("model.tie_embeddings").startswith("model.tie_embeddings: true or false, default true\n")


def test_a_key_of_several_options_is_explained_for_each() -> None:
    assert explain("schedule.final_factor").count("schedule.final_factor: a number, default") == 3
    assert explain("schedule.final_factor").count("default 0.1") == 1


def test_a_key_of_the_base_class_is_explained_once_and_with_what_an_option_makes_of_it() -> None:
    heads = [line for line in explain("model.num_layers").split("\n") if line.startswith("model")]
    assert heads == [
        "model.num_layers: a whole number, default 2, at least 1",
        "model.num_layers: a whole number, default 4, at least 1",
        "model.num_layers: a whole number, default 2, at least 1",
    ]


def test_a_block_names_its_keys() -> None:
    assert explain("callbacks.early_stopping").split("\n")[0] == (
        "callbacks.early_stopping: a block of keys: callbacks.early_stopping.patience, "
        "callbacks.early_stopping.metric, callbacks.early_stopping.mode, callbacks.early_stopping.min_delta"
    )


def test_a_group_lists_its_options_the_default_first() -> None:
    assert explain("optimizer") == (
        "optimizer: How gradients change the weights.\n"
        "  muon (default)  Muon for matrices, AdamW for the rest.\n"
        "  adamw           AdamW; learning rate 1e-3.\n"
        "  sgd             SGD with momentum."
    )


def test_an_option_shows_its_file() -> None:
    assert explain("schedule=linear") == (
        "schedule=linear  (conf/schedule/linear.yaml)\n\n"
        "# Warm-up, then a line down to zero.\n"
        "defaults: [/schema/schedule/linear@_here_, _self_]\n"
        "warmup_fraction: 0.02"
    )


def test_an_experiment_shows_its_file() -> None:
    assert "val loss" in explain("experiment=nanogpt_shakespeare_char")


def test_nothing_explains_every_group_in_the_order_of_the_root() -> None:
    text = explain(None)
    heads = [line.partition(":")[0] for line in text.split("\n") if line and not line.startswith(" ")]
    assert heads == list(default_options())
    assert heads[:3] == ["data", "tokenizer", "model"]
    assert heads[-3:] == ["experiment", "debug", "corpus"]
    assert text == groups_and_options()
    assert text.count("(default)") == sum(option is not None for option in default_options().values())


@pytest.mark.parametrize(
    ("key", "problem"),
    [
        ("model.hiden_size", "model.hiden_size: there is no such key; did you mean model.hidden_size?"),
        ("learning_rate", "learning_rate: there is no such key; did you mean optimizer.learning_rate?"),
        ("modle", "modle: there is no such key; did you mean model?"),
        ("modle=lstm", "modle: there is no such key; did you mean model?"),
        ("model=lsmt", f"model: has no option 'lsmt'; did you mean lstm?; options: {MODELS}"),
        ("zzz", "zzz: there is no such key"),
        ("", "there is no such key"),
    ],
)
def test_an_unknown_key_is_an_error_with_the_nearest_one(key: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        explain(key)
    assert str(caught.value) == problem


def test_key_equals_value_explains_the_key() -> None:
    assert explain("seed=3") == explain("seed")


def test_options_of_ones_own_are_explained_too(folder: Path) -> None:
    own("model/mine", "# Mine, very deep.\ndefaults: [/schema/model/lstm@_here_, _self_]\n")
    assert "  mine                   Mine, very deep.\n" in explain("model") + "\n"
    assert explain("model=mine").startswith("model=mine  (conf/model/mine.yaml)\n\n# Mine, very deep.")


def test_an_option_of_a_plug_in_is_explained_by_its_docstring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(OPTIONS, "model", dict(OPTIONS["model"]))

    @dataclass(kw_only=True)
    class MineConfig(ModelConfig):
        """A model of my own."""

        name = "mine"
        builds = "my_model:Mine"

    assert "  mine                   A model of my own.\n" in explain("model") + "\n"
    assert explain("model=mine").startswith("model=mine\n  A model of my own.\n  (")


def test_a_class_that_was_typed_in_has_no_texts_and_is_no_error() -> None:
    body = {"__annotations__": {"depth": int}, "depth": 3, "__module__": "__main__"}
    typed = dataclass(kw_only=True)(type("Typed", (ModelConfig,), body))
    assert "depth" not in field_texts(typed)
    assert "frozen" in field_texts(typed)
