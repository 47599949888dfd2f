"""Every recipe and every debug option in conf/ runs, for two steps on a small text."""

import json
from pathlib import Path

import pytest

from lmexp import compose, train
from lmexp.config.options import list_groups

OWN = {
    "wikitext2_fast": ["tokenizer.vocab_size=400"],
    "sft": ["data.path=chat.jsonl", "tokenizer=bytes", "data.context_length=64"],
    "classify_text": ["data.path=labels.tsv", "tokenizer.vocab_size=300"],
    "classify_pretrained": ["data.path=labels.tsv", "tokenizer=bytes"],
    "translate_text": ["data.path=pairs.tsv", "tokenizer.vocab_size=300", "data.batch_tokens=64", "task.num_beams=2"],
    "dpo": ["data.path=chat.jsonl", "tokenizer=bytes", "data.context_length=128"],
}
"""What an experiment needs to be so small."""
SMALL = ["data.batch_size=4", "data.context_length=16", "model.num_layers=1", "model.hidden_size=8"]


@pytest.mark.parametrize("experiment", list_groups()["experiment"])
def test_every_experiment_runs_two_steps(experiment: str, folder: Path, text_file: Path) -> None:
    rows = [
        {"prompt": line, "completion": line[::-1], "chosen": line[:5], "rejected": line}
        for line in text_file.read_text().splitlines()[:200]
    ]
    Path("chat.jsonl").write_text("\n".join(map(json.dumps, rows)))
    lines = text_file.read_text().splitlines()[:200]
    Path("labels.tsv").write_text("\n".join(f"{line[:9]}\t{'ab'[len(line) % 2]}" for line in lines))
    Path("pairs.tsv").write_text("\n".join(f"{line[:9]}\t{line[5::-1]}" for line in lines))
    path = [] if experiment.endswith("_demo") else [f"data.path={text_file}"]
    overrides = [f"experiment={experiment}", *path, "debug=fast", *SMALL, *OWN.get(experiment, [])]
    run = train(compose("train", [*overrides, "trainer.max_epochs=null"]))
    assert run.record["status"] == "done"
    assert run.record["step"] == 2
    assert run.path.parent.name == "debug"


def test_the_default_run_starts_on_the_documentation_of_python(folder: Path) -> None:
    run = train(compose("train", ["debug=fast", *SMALL, "data.evaluation_batch_size=256"]))
    assert run.record["status"] == "done"
    assert run.path.name.startswith("transformer-python_docs-")
