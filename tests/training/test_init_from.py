"""A run begins with the weights, the model and the tokenizer of another."""

import shutil
from pathlib import Path

import pytest
import torch

from lmexp import checkpoints, compose, load_run, train
from lmexp.config import TrainConfig
from lmexp.errors import ConfigError, RunError, Stopped, StorageError
from lmexp.runs import RunFolder
from lmexp.training.loop import train_from_folder
from tests.conftest import sentences
from tests.training.setups import KINDS, TINY, outcome, stop_at, tiny

SHAPE = [line for line in TINY if not line.startswith(("tokenizer=", "model."))]


@pytest.fixture
def source(folder: Path, text_file: Path) -> RunFolder:
    return train(tiny(text_file, *KINDS["lstm shuffled"]))


@pytest.fixture
def new_text(folder: Path) -> Path:
    path = folder / "new.txt"
    path.write_text(sentences(20_000, seed=1).replace("cat", "fox"))
    return path


def begun_with(source: RunFolder, text: Path, *more: str) -> TrainConfig:
    return compose("train", [*SHAPE, f"data.path={text}", f"init_from={source.path}", "optimizer=adamw", *more])


def weights(run: RunFolder) -> dict[str, torch.Tensor]:
    return checkpoints.read_weights(checkpoints.listing(run.checkpoints)[-1])


def test_the_model_and_the_tokenizer_are_those_of_the_source(source: RunFolder, new_text: Path) -> None:
    config = begun_with(source, new_text, "model.dropout=0.1", "seed=5")
    assert config.model.name == "lstm"
    assert config.model.hidden_size == source.config.model.hidden_size
    assert (config.model.dropout, config.seed) == (0.1, 5)
    run = train(config)
    assert run.record["tokenizer_hash"] == source.record["tokenizer_hash"]
    assert run.record["data_fingerprint"] != source.record["data_fingerprint"]
    newest = checkpoints.listing(source.checkpoints)[-1]
    assert run.record["init_from"] == {
        "id": source.record["id"],
        "path": str(source.path.resolve()),
        "checkpoint": newest.name,
        "weights": checkpoints.read_meta(newest)["files"][checkpoints.WEIGHTS]["sha256"],
    }


def test_training_begins_with_the_weights_of_the_source(source: RunFolder, new_text: Path) -> None:
    run = train(begun_with(source, new_text, "optimizer.learning_rate=1e-12", "trainer.max_steps=1"))
    before, after = weights(source), weights(run)
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        torch.testing.assert_close(after[name], tensor, rtol=0, atol=1e-9)


def test_the_identity_holds_the_weights_and_not_where_they_are(source: RunFolder, new_text: Path) -> None:
    run = train(begun_with(source, new_text))
    moved = RunFolder(shutil.copytree(source.path, "moved"))
    assert train(begun_with(moved, new_text)).path == run.path
    other = train(compose("train", [f"resume={source.path}", "trainer.max_steps=14"]))
    assert train(begun_with(other, new_text)).path != run.path


def test_a_run_that_was_cut_off_goes_on_without_its_source(
    source: RunFolder, new_text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(begun_with(source, new_text))
    expected = outcome(whole)
    shutil.rmtree(whole.path)
    stop_at(monkeypatch, 13)
    with pytest.raises(Stopped):
        train(begun_with(source, new_text))
    (source.path / "checkpoints").rename("elsewhere")
    train_from_folder(RunFolder(whole.path))
    assert outcome(whole) == expected


def test_adapters_of_the_source_are_merged_and_new_ones_begin_at_nothing(folder: Path, new_text: Path) -> None:
    transformer = train(tiny(new_text, "model=transformer_tiny", "optimizer=adamw", "model.lora.rank=2"))
    still = ["optimizer.learning_rate=1e-12", "trainer.max_steps=1"]
    for more in ([], ["model.lora.rank=3"]):
        run = train(begun_with(transformer, new_text, *still, *more))
        assert run.config.model.lora.rank == (3 if more else None)
        tokens = torch.randint(30, (4, 12))
        models = [load_run(path).model for path in (transformer.path, run.path)]
        with torch.no_grad():
            one, other = (model.head.logits(model(tokens)[0]) for model in models)
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_gpt2_keeps_its_table_of_positions(folder: Path, text_file: Path, new_text: Path) -> None:
    source = train(tiny(text_file, "model=gpt2", "optimizer=adamw", "data.context_length=24"))
    run = train(begun_with(source, new_text, "data.context_length=8"))
    assert run.config.model.max_positions == 24
    assert load_run(run.path).model.max_length == 24
    with pytest.raises(ConfigError, match=r"data.context_length: 48 is more than the 24 positions of the model"):
        begun_with(source, new_text, "data.context_length=48")


def test_weights_of_another_model_are_refused_with_names_and_shapes(source: RunFolder, new_text: Path) -> None:
    with pytest.raises(RunError) as error:
        train(begun_with(source, new_text, "model.hidden_size=8"))
    message = str(error.value)
    assert "is not a run of such a model: tensors of another shape: embedding.weight: expected [" in message
    assert ", 8], found [" in message
    assert "\n" not in message


def test_another_model_or_tokenizer_beside_it_is_refused(source: RunFolder, new_text: Path) -> None:
    with pytest.raises(ConfigError) as error:
        begun_with(source, new_text, "model=gpt2", "tokenizer=bpe", "tokenizer.vocab_size=300")
    assert [problem.key for problem in error.value.problems] == ["model", "tokenizer", "tokenizer.vocab_size"]
    with pytest.raises(ConfigError, match=r"^init_from: no run is there: nowhere$"):
        compose("train", ["init_from=nowhere"])
    with pytest.raises(ConfigError, match=r"^init_from: takes one run; give each its own command$"):
        compose("train", ["init_from=a,b"])


def test_a_source_without_a_checkpoint_or_with_a_damaged_one_is_refused(source: RunFolder, new_text: Path) -> None:
    newest = checkpoints.listing(source.checkpoints)[-1]
    (newest / checkpoints.WEIGHTS).write_bytes(b"nothing")
    with pytest.raises(StorageError, match=r"weights.safetensors: not what was written"):
        train(begun_with(source, new_text))
    shutil.rmtree(source.checkpoints)
    with pytest.raises(RunError, match=r"^init_from: .* has no checkpoint to begin with$"):
        train(begun_with(source, new_text, "seed=9"))
