"""Frozen parts and low-rank adapters, on our own models and on those of transformers."""

from pathlib import Path
from typing import Any

import pytest
import torch

from lmexp.config.model import GPT2Config, LoRAConfig, Loss, LSTMConfig, TransformerConfig
from lmexp.config.optimizer import AdamWConfig, MuonConfig, SGDConfig
from lmexp.config.pretrained import Head, HFConfig
from lmexp.config.schema import build
from lmexp.errors import ConfigError
from lmexp.models.adapters import add_adapters, freeze, linear_layers, merge, num_trainable, under_adapters
from lmexp.models.state import LanguageModel
from tests.models.setups import assert_close, random_tokens, rough_model
from tests.models.tiny_pretrained import CAUSAL, MASKED, load, save, whole_model

RANK = 3
OWN = {
    "transformer": TransformerConfig(num_layers=2, hidden_size=16),
    "gpt2": GPT2Config(num_layers=2, hidden_size=16, bias=True, tie_embeddings=False),
    "lstm, projected": LSTMConfig(num_layers=1, hidden_size=16, embedding_size=10),
}
PRETRAINED = {"llama": (CAUSAL["llama"], Head.causal), "hf gpt2": (CAUSAL["gpt2"], Head.causal)}
PRETRAINED |= {"bert": (MASKED["bert"], Head.masked)}


@pytest.fixture
def model(request: pytest.FixtureRequest, tmp_path: Path) -> LanguageModel:
    """A model of ours, or of transformers, with large weights."""
    if request.param in OWN:
        return rough_model(OWN[request.param])
    config, head = PRETRAINED[request.param]
    return load(save(whole_model(config, head), tmp_path), head)


EVERY_MODEL = pytest.mark.parametrize("model", [*OWN, *PRETRAINED], indirect=True)


def adapted(model: LanguageModel, **changes: Any) -> LanguageModel:
    """Return the model with adapters that add something."""
    torch.manual_seed(1)
    add_adapters(model, LoRAConfig(rank=RANK, **changes))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if ".lora_" in name:
                weight.add_(torch.randn_like(weight), alpha=0.3)
    return model


def logits(model: LanguageModel) -> torch.Tensor:
    return model.head.logits(model(random_tokens(3, 9))[0]).detach()


@EVERY_MODEL
def test_new_adapters_change_nothing(model: LanguageModel) -> None:
    before = logits(model)
    add_adapters(model, LoRAConfig(rank=RANK))
    assert torch.equal(logits(model), before)


@EVERY_MODEL
def test_only_adapters_are_trained_and_every_linear_layer_but_the_head_has_one(model: LanguageModel) -> None:
    before, layers = model.num_parameters(), list(linear_layers(model))
    adapted(model)
    trained = [name for name, weight in model.named_parameters() if weight.requires_grad]
    assert len(trained) == 2 * len(layers)
    assert all(".lora_" in name and not name.startswith("head.") for name in trained)
    assert num_trainable(model) == model.num_parameters() - before > 0
    model.head.nll_sum(model(random_tokens(3, 9))[0], random_tokens(3, 9, seed=2)).backward()
    for name, weight in model.named_parameters():
        assert (weight.grad is not None) == (name in trained), name


@EVERY_MODEL
def test_merged_weights_give_the_logits_of_the_adapted_model(model: LanguageModel) -> None:
    plain = logits(model)
    names = set(model.state_dict())
    expected = logits(adapted(model))
    merged = merge(model)
    assert set(merged) == names
    assert (expected - plain).abs().max() > 0.01
    for name, module in model.named_modules():
        if name.endswith("lora_B.default"):
            torch.nn.init.zeros_(module.weight)
    model.load_state_dict(under_adapters(model, merged))
    assert_close(logits(model), expected)


@EVERY_MODEL
def test_the_optimizers_take_what_is_trained_and_nothing_else(model: LanguageModel) -> None:
    adapted(model)
    trained = {id(weight) for weight in model.parameters() if weight.requires_grad}
    for config in (AdamWConfig(), MuonConfig(), SGDConfig()):
        groups = build(config, model=model).param_groups
        assert {id(weight) for group in groups for weight in group["params"]} == trained


def test_without_adapters_merging_gives_the_weights(tmp_path: Path) -> None:
    model = rough_model(OWN["transformer"])
    assert all(torch.equal(merge(model)[name], weight) for name, weight in model.state_dict().items())


def test_adapters_go_on_the_layers_that_are_named() -> None:
    model = adapted(rough_model(OWN["transformer"]), targets=["query", "value"])
    with_adapters = {name.split(".lora_")[0] for name, _ in model.named_parameters() if ".lora_A" in name}
    assert with_adapters == {f"blocks.{layer}.attention.{part}" for layer in (0, 1) for part in ("query", "value")}


def test_alpha_scales_what_adapters_add() -> None:
    one, two = (adapted(rough_model(OWN["transformer"]), alpha=alpha) for alpha in (1.0, 2.0))
    name = "blocks.0.attention.query.weight"
    plain = rough_model(OWN["transformer"]).state_dict()[name]
    assert_close(2 * (merge(one)[name] - plain), merge(two)[name] - plain)


def test_dropout_of_adapters_acts_in_training_only() -> None:
    model = adapted(rough_model(OWN["transformer"]), dropout=0.5)
    assert torch.equal(logits(model), logits(model))
    model.train()
    assert not torch.equal(logits(model), logits(model))


def test_layers_that_are_not_there_are_refused_with_those_that_are() -> None:
    with pytest.raises(
        ConfigError, match="no linear layer is called q_proj; there are: down, gate, key, output, query"
    ):
        add_adapters(rough_model(OWN["transformer"]), LoRAConfig(rank=2, targets=["q_proj", "up"]))
    with pytest.raises(ConfigError, match="no linear layer but its head to put adapters on"):
        add_adapters(rough_model(LSTMConfig(num_layers=1, hidden_size=16)), LoRAConfig(rank=2))


def test_frozen_parts_are_not_trained() -> None:
    model = rough_model(OWN["gpt2"])
    freeze(model, ["embedding.*", "blocks.0.*"])
    frozen = {name for name, weight in model.named_parameters() if not weight.requires_grad}
    assert frozen == {name for name, _ in model.named_parameters() if name.startswith(("embedding.", "blocks.0."))}
    assert num_trainable(model) < model.num_parameters()


def test_a_pattern_that_names_nothing_is_refused_with_what_is_near() -> None:
    model = rough_model(OWN["transformer"])
    with pytest.raises(ConfigError, match=r"no parameter is called embeding\.\*; did you mean embedding"):
        freeze(model, ["embeding.*"])
    with pytest.raises(
        ConfigError, match=r"no parameter is called zzz; there are: embedding\.\*, blocks\.\*, norm\.\*"
    ):
        freeze(model, ["zzz"])


def test_freezing_all_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"model\.frozen: nothing is left to train"):
        freeze(rough_model(OWN["transformer"]), ["*"])


def test_the_chunked_loss_trains_adapters_below_a_frozen_head(tmp_path: Path) -> None:
    folder = save(whole_model(*PRETRAINED["llama"]), tmp_path)
    gradients = []
    for loss in (Loss.dense, Loss.chunked):
        config = HFConfig(name_or_path=str(folder), loss=loss)
        model = adapted(build(config, vocab_size=40, context_length=16))
        model.head.nll_sum(model(random_tokens(3, 9))[0], random_tokens(3, 9, seed=2)).backward()
        gradients.append([weight.grad for weight in model.parameters() if weight.requires_grad])
    for dense, chunked in zip(*gradients, strict=True):
        assert_close(chunked, dense)
