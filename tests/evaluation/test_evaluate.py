"""A run measured over whole splits, of its own text or another, the same at any batch size."""

import json
import math
from pathlib import Path
from typing import Any

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
    """Return what training measures, too."""
    return without_words(evaluate(str(run.path), overrides))


def without_words(result: dict[str, Any]) -> dict[str, float]:
    return {key: value for key, value in result["metrics"].items() if not key.endswith("word_perplexity")}


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
    assert close(without_words(result), metrics(run, "data=text", f"data.path={other}", "data.context_length=16"))
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


def test_the_table_has_each_metric_with_its_interval() -> None:
    loss = {"value": 1.5, "low": 1.25, "high": 1.75}
    found = {"num_examples": 12, "examples_are": "documents", "num_targets": 2192, "metrics": {"loss_nats": loss}}
    bleu = {"value": 33.25, "low": None, "high": None, "signature": "nrefs:1"}
    other = found | {"num_examples": 1, "metrics": {"bleu": bleu, "loss_nats": loss}}
    result = {
        "run": "outputs/lmexp/a",
        "checkpoint": "step-000012",
        "data": "text",
        "splits": {"val": found, "test": other},
        "file": "outputs/lmexp/a/evaluations/b.json",
    }
    assert as_table(result) == (
        "outputs/lmexp/a at step-000012, data=text\n"
        "val: 12 documents, 2,192 predictions\n"
        "  loss nats  1.5000  [1.2500, 1.7500]\n"
        "test: 1 documents, 2,192 predictions\n"
        "  bleu       33.2500                    nrefs:1\n"
        "  loss nats   1.5000  [1.2500, 1.7500]\n"
        "kept in outputs/lmexp/a/evaluations/b.json"
    )


def test_what_was_measured_is_kept_example_by_example(text_file: Path) -> None:
    run = train(tiny(text_file, "model=transformer_tiny", *ADAMW, "data.documents=line"))
    result = evaluate(str(run.path))
    kept = json.loads(Path(result["file"]).read_text())
    assert kept == {key: value for key, value in json.loads(json.dumps(result)).items() if key != "file"}
    assert Path(result["file"]).parent == run.path / "evaluations"
    for split in ("val", "test"):
        found, counts = kept["splits"][split], prepare(run.config.data, run.config.tokenizer).splits[split]
        assert (found["examples_are"], found["num_examples"]) == ("documents", counts.documents)
        examples = found["examples"]
        assert sum(examples["tokens"]) == found["num_targets"] == counts.tokens - 1
        mean = sum(examples["nll_nats"]) / sum(examples["tokens"])
        assert mean == pytest.approx(kept["metrics"][f"{split}/loss_nats"])
        for one in found["metrics"].values():
            assert one["low"] < one["value"] < one["high"]
        words = [len(line.split()) for line in documents(run, split)]
        expected = math.exp(sum(examples["nll_nats"]) / sum(words))
        assert kept["metrics"][f"{split}/word_perplexity"] == pytest.approx(expected)
    assert evaluate(str(run.path))["file"] == result["file"]
    assert evaluate(str(run.path), ["data.context_length=8"])["file"] != result["file"]


def documents(run: RunFolder, split: str) -> list[str]:
    from lmexp.config.schema import build

    return list(build(run.config.data).documents(split))


def test_windows_that_overlap_give_each_token_more_to_look_back_on(text_file: Path) -> None:
    run = train(tiny(text_file, "model=transformer_tiny", *ADAMW))
    loaded, corpus = load_run(run.path), prepare(run.config.data, run.config.tokenizer)
    disjoint, same, sliding = (evaluate(str(run.path), stride=stride) for stride in (None, 16, 5))
    assert same["metrics"]["val/loss_nats"] == pytest.approx(disjoint["metrics"]["val/loss_nats"], abs=1e-6)
    assert sliding["num_targets"] == disjoint["num_targets"]
    assert sliding["metrics"]["val/loss_nats"] != pytest.approx(disjoint["metrics"]["val/loss_nats"], abs=1e-4)
    ids, total = torch.from_numpy(corpus.open("val").ids.astype("int64")), 0.0
    with torch.no_grad():
        for first in range(0, len(ids) - 1, 5):
            last = min(first + 5, len(ids) - 1)
            window = ids[max(0, first + 5 - 16) : first + 5 + 1][: last + 1 - max(0, first + 5 - 16)]
            nll = loaded.model.head.nll(loaded.model(window[None, :-1])[0], window[None, 1:])
            total += nll[0, -(last - first) :].double().sum().item()
    assert sliding["metrics"]["val/loss_nats"] == pytest.approx(total / (len(ids) - 1), abs=1e-6)
    with pytest.raises(ConfigError, match=r"at most data\.context_length=16, not 17"):
        evaluate(str(run.path), stride=17)


@pytest.mark.parametrize("kind", ["lstm that tells labels", "encoder_decoder", "lstm_attention"])
def test_tasks_with_examples_are_measured_as_in_training(text_file: Path, kind: str) -> None:
    run = train(tiny(text_file, *KINDS[kind]))
    result = evaluate(str(run.path), contaminated=kind == "lstm that tells labels")
    written = ("bleu", "chrf")  # of val only some are written in training
    known = {key: value for key, value in run.record["metrics"].items() if key.startswith(("val/", "test/"))}
    for key, value in known.items():
        if not (key.startswith("val/") and key.endswith(written)):
            assert result["metrics"][key] == pytest.approx(value, abs=1e-4), key
    for found in result["splits"].values():
        assert found["examples_are"] == ("texts" if kind == "lstm that tells labels" else "pairs")
        assert {len(column) for column in found["examples"].values()} == {found["num_examples"]}
    if kind == "encoder_decoder":
        greedy = evaluate(str(run.path), ["task.num_beams=1", "task.lowercase=true", "task.metrics=[bleu]"])
        assert "case:lc" in greedy["splits"]["test"]["metrics"]["bleu"]["signature"]
        assert greedy["file"] != result["file"]
        assert "test/chrf" not in greedy["metrics"]
    if kind == "lstm that tells labels":
        report = result["splits"]["test"]["contamination"]
        assert report["num_contaminated"] == len(report["numbers"])
        assert set(report["clean"]) == set(result["splits"]["test"]["metrics"])
