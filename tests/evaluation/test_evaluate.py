"""A run measured over whole splits, of its own text or another, the same at any batch size."""

import json
import math
from pathlib import Path

import pytest
import torch

from lmexp import load_run, train
from lmexp.data.corpus import prepare
from lmexp.errors import ConfigError, DataError, RunError
from lmexp.evaluation.evaluate import as_table, evaluate
from lmexp.interchange.exporting import export
from lmexp.runs import RunFolder
from tests.conftest import sentences
from tests.interchange.setups import CONFIGS, made_run
from tests.training.setups import KINDS, TINY, tiny

pytestmark = pytest.mark.usefixtures("folder")

ADAMW = ["optimizer=adamw"]


def metrics(run: RunFolder, *overrides: str) -> dict[str, float]:
    return evaluate(str(run.path), overrides)["metrics"]


def close(one: dict[str, float], other: dict[str, float]) -> bool:
    return one.keys() == other.keys() and all(other[key] == pytest.approx(one[key], abs=1e-6) for key in one)


@pytest.mark.parametrize("lines", [["model=transformer_tiny"], ["model=bert", "task=masked"]], ids=" ".join)
def test_a_run_is_measured_as_training_measured_it(text_file: Path, lines: list[str]) -> None:
    run = train(tiny(text_file, *lines, *ADAMW))
    found = metrics(run)
    assert close(found, {key: value for key, value in run.record["metrics"].items() if key in found})
    assert {key.split("/")[0] for key in found} == {"val", "test"}
    assert ("val/bits_per_byte" in found) == (lines == ["model=transformer_tiny"])
    assert found["val/perplexity"] == pytest.approx(math.exp(found["val/loss_nats"]))


@pytest.mark.parametrize("kind", ["lstm contiguous", "lstm contiguous by document", "transformer"])
def test_the_batch_size_does_not_matter(text_file: Path, kind: str) -> None:
    run = train(tiny(text_file, *KINDS[kind], "trainer.max_steps=4"))
    sizes = [f"data.evaluation_batch_size={size}" for size in (1, 7, 64)]
    results = [evaluate(str(run.path), [size]) for size in sizes]
    assert all(close(results[0]["metrics"], result["metrics"]) for result in results)
    tokens = prepare(run.config.data, run.config.tokenizer).splits
    assert results[0]["num_targets"] == {split: tokens[split].tokens - 1 for split in ("val", "test")}


def test_a_state_is_carried_through_the_whole_split(text_file: Path) -> None:
    run = train(tiny(text_file, *KINDS["lstm contiguous"], "trainer.max_steps=4"))
    loaded, corpus = load_run(run.path), prepare(run.config.data, run.config.tokenizer)
    ids = torch.from_numpy(corpus.open("val").ids.astype("int64"))[None]
    with torch.no_grad():
        nll = loaded.model.head.nll(loaded.model(ids[:, :-1])[0], ids[:, 1:]).double()
    assert metrics(run)["val/loss_nats"] == pytest.approx(nll.mean().item(), abs=1e-6)
    bits = nll.sum().item() / math.log(2) / corpus.splits["val"].bytes
    assert metrics(run)["val/bits_per_byte"] == pytest.approx(bits, abs=1e-6)


def test_other_text_is_measured_with_the_tokenizer_of_the_run(folder: Path, text_file: Path) -> None:
    run = train(tiny(text_file, "model=transformer_tiny", *ADAMW))
    other = folder / "other.txt"
    other.write_text(sentences(9_000, seed=3).replace("cat", "\u732b"))
    own, result = evaluate(str(run.path)), evaluate(str(run.path), ["data=text", f"data.path={other}"])
    assert result["data_fingerprint"] != own["data_fingerprint"]
    splits = prepare(run.config.data, run.config.tokenizer).splits
    assert own["num_targets"]["val"] == splits["val"].tokens - 1
    assert result["num_targets"]["val"] < own["num_targets"]["val"]
    assert close(result["metrics"], metrics(run, "data=text", f"data.path={other}", "data.context_length=16"))
    shorter = metrics(run, "data=text", f"data.path={other}", "data.context_length=4")
    assert shorter["val/loss_nats"] != result["metrics"]["val/loss_nats"]


def test_text_that_has_changed_is_still_read_with_the_tokens_of_the_run(folder: Path) -> None:
    text = folder / "text.txt"
    text.write_text(sentences(30_000))
    run = train(tiny(text, "model=transformer_tiny", *ADAMW))
    before = evaluate(str(run.path))
    text.write_text("\u00e9\u00e8" + sentences(30_000, seed=2))
    after = evaluate(str(run.path))
    assert after["data_fingerprint"] != before["data_fingerprint"]
    assert after["metrics"]["val/loss_nats"] == pytest.approx(before["metrics"]["val/loss_nats"], abs=0.5)


def test_a_model_of_transformers_is_measured_too(text_file: Path) -> None:
    source = export(made_run(CONFIGS["llama"]).path, "source")
    shape = [line for line in TINY if not line.startswith(("model.", "tokenizer="))]
    lines = [f"data.path={text_file}", "model=hf", f"model.name_or_path={source}", "tokenizer=hf", *ADAMW]
    from lmexp import compose

    run = train(compose("train", [*shape, *lines]))
    found = metrics(run)
    assert close(found, {key: value for key, value in run.record["metrics"].items() if key in found})


def test_only_the_data_can_be_another(text_file: Path) -> None:
    run = made_run(CONFIGS["llama"])
    with pytest.raises(ConfigError) as error:
        evaluate(str(run.path), ["model=lstm", "seed=3", "data.batch_sise=3", "data.path=nowhere"])
    assert [problem.key for problem in error.value.problems] == ["model", "seed", "data.batch_sise", "data.path"]
    assert "an evaluation takes data=... and data.KEY=... only" in str(error.value)
    with pytest.raises(ConfigError, match=r"^data.path: must be given"):
        evaluate(str(run.path), ["data=text"])
    with pytest.raises(RunError, match="no run is called 'nothing'"):
        evaluate("nothing")
    made_run(CONFIGS["gpt2 as published"])
    with pytest.raises(ConfigError, match=r"^data.context_length: 99 is more than the 36 positions"):
        evaluate(str(run.path), ["data.context_length=99"])


def test_a_text_without_anything_to_measure_is_said(folder: Path, text_file: Path) -> None:
    run = train(tiny(text_file, "model=transformer_tiny", *ADAMW))
    (folder / "tiny.txt").write_text("a")
    with pytest.raises(DataError):
        evaluate(str(run.path), ["data=text", "data.path=tiny.txt"])


def test_the_table_has_a_line_for_each_split() -> None:
    result = {
        "run": "outputs/lmexp/a",
        "checkpoint": "step-000012",
        "data": "text",
        "num_targets": {"val": 2192, "test": 2174},
        "metrics": {"val/loss_nats": 1.5, "val/perplexity": 4.4817, "test/loss_nats": 1.25, "test/perplexity": 3.4903},
    }
    assert json.loads(json.dumps(result)) == result
    assert as_table(result) == (
        "outputs/lmexp/a at step-000012, data=text\n"
        "      loss nats  perplexity  tokens\n"
        " val     1.5000      4.4817   2,192\n"
        "test     1.2500      3.4903   2,174"
    )
