"""Fine-tuning a pretrained model of transformers, with and without adapters, from its folder to a run that needs it no
more."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from lmexp import checkpoints, compose, train
from lmexp.config.pretrained import Head
from lmexp.errors import ConfigError, Stopped
from lmexp.models.adapters import merge
from lmexp.runs import RunFolder
from tests.models.tiny_pretrained import assert_close, save, transformers, whole_model
from tests.training.setups import outcome, stop_at

SIZES: dict[str, Any] = {"vocab_size": 64, "bos_token_id": 0, "eos_token_id": 0}
RUN = [
    "tokenizer=hf",
    "data=text",
    "data.batch_size=8",
    "data.context_length=16",
    "logger=none",
    "optimizer=adamw",
    "optimizer.learning_rate=0.01",
    "trainer.max_steps=12",
    "trainer.validate_every_steps=6",
    "trainer.checkpoint_every_steps=4",
    "trainer.progress_bar=false",
    "callbacks.samples.prompts=[the]",
    "callbacks.samples.max_tokens=4",
]
KINDS = {
    "all weights": [],
    "adapters": ["model.lora.rank=4", "model.lora.targets=[c_attn]", "model.lora.dropout=0.1"],
    "frozen parts": ["model.frozen=[base.wte.*,base.wpe.*]", "optimizer=muon"],
}


@pytest.fixture
def pretrained(folder: Path, text_file: Path) -> Path:
    """A folder with a tiny GPT-2 (with dropout, as GPT-2 has) and a tokenizer of 64 pieces."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    path = folder / "pretrained"
    config = transformers.GPT2Config(**SIZES, n_embd=16, n_layer=2, n_head=2, n_positions=32)
    save(transformers.GPT2LMHeadModel(config), path)
    pieces = Tokenizer(models.BPE())
    pieces.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    pieces.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=64, special_tokens=["<end>"], show_progress=False)
    pieces.train_from_iterator([text_file.read_text()], trainer)
    transformers.PreTrainedTokenizerFast(tokenizer_object=pieces, eos_token="<end>").save_pretrained(path)
    return path


def config_of(pretrained: Path, text_file: Path, *more: str) -> Any:
    where = ["model=hf", f"model.name_or_path={pretrained}", f"data.path={text_file}"]
    return compose("train", [*RUN, *where, *more])


@pytest.mark.parametrize("kind", KINDS)
def test_a_stopped_run_goes_on_as_if_it_had_not_stopped(
    kind: str, pretrained: Path, text_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = outcome(train(config_of(pretrained, text_file, *KINDS[kind], "output_dir=reference")))
    config = config_of(pretrained, text_file, *KINDS[kind])
    stop_at(monkeypatch, 6)
    with pytest.raises(Stopped):
        train(config)
    assert outcome(train(config)) == expected


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_learns_and_says_how_much_of_it_was_trained(kind: str, pretrained: Path, text_file: Path) -> None:
    run = train(config_of(pretrained, text_file, *KINDS[kind], "trainer.max_steps=40"))
    losses = [row["val/loss_nats"] for row in run.metrics if "val/loss_nats" in row]
    assert losses[-1] < losses[0] - 0.01  # adapters on weights that know nothing can learn little
    record, before = run.record, transformers.GPT2LMHeadModel.from_pretrained(pretrained)
    model = checkpoints.load_run(run.path).model
    trainable = [weight.numel() for weight in model.parameters() if weight.requires_grad]
    assert record["parameters"] == model.num_parameters()
    assert record["trainable_parameters"] == sum(trainable)
    if kind == "adapters":
        assert torch.equal(merge(model)["base.wte.weight"], before.transformer.wte.weight)
        assert sum(trainable) == 2 * 4 * (16 + 48)
    if kind == "frozen parts":
        assert torch.equal(model.state_dict()["base.wte.weight"], before.transformer.wte.weight)


def test_a_run_needs_the_folder_it_came_from_no_more(pretrained: Path, text_file: Path) -> None:
    config = config_of(pretrained, text_file, *KINDS["adapters"])
    run = train(config)
    shutil.rmtree(pretrained)
    loaded = checkpoints.load_run(run.path)
    hidden, _ = loaded.model(torch.tensor([[5, 6, 7]]))
    assert loaded.model.head.logits(hidden).isfinite().all()
    assert json.loads(run.architecture.read_text())["model_type"] == "gpt2"
    with pytest.raises(ConfigError, match=r"model.name_or_path: nothing is there"):
        config_of(pretrained, text_file)


def test_another_model_in_the_same_folder_is_another_run(pretrained: Path, text_file: Path) -> None:
    first = train(config_of(pretrained, text_file))
    moved = pretrained.rename(pretrained.with_name("moved"))
    assert train(config_of(moved, text_file)).path == first.path
    config = transformers.GPT2Config(**SIZES, n_embd=16, n_layer=1, n_head=2, n_positions=32)
    save(transformers.GPT2LMHeadModel(config), moved)
    assert train(config_of(moved, text_file)).path != first.path


def test_an_adapted_run_can_begin_where_another_ended(pretrained: Path, text_file: Path) -> None:
    first = train(config_of(pretrained, text_file))
    shutil.rmtree(pretrained)
    save(
        whole_model(transformers.GPT2Config(**SIZES, n_embd=16, n_layer=2, n_head=2, n_positions=32), Head.causal),
        pretrained,
    )
    more = ["model.lora.rank=2", "model.lora.targets=[c_attn]", "optimizer.learning_rate=1e-9", "trainer.max_steps=1"]
    where = [line for line in RUN if not line.startswith("tokenizer")]
    second = train(compose("train", [*where, f"init_from={first.path}", f"data.path={text_file}", *more]))
    tokens = torch.arange(10)[None]
    logits = []
    for run in (first, RunFolder(second.path)):
        model = checkpoints.load_run(run.path).model
        logits.append(model.head.logits(model(tokens)[0]))
    assert_close(logits[1], logits[0])
