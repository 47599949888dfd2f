"""lm-evaluation-harness asks our models: the answers are those of the model by hand, from local files alone."""

import json
import math
from pathlib import Path

import pytest
import torch

from lmexp import load_run, train
from lmexp.errors import DataError, RunError
from lmexp.evaluation.harness import Adapter, _named, as_table, evaluate
from tests.training.setups import KINDS, tiny

pytestmark = [
    pytest.mark.usefixtures("folder"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]

LAST_WORD = """
task: last_word
dataset_path: json
dataset_kwargs:
  data_files: {file}
output_type: loglikelihood
test_split: train
doc_to_text: "{{{{context}}}}"
doc_to_target: "{{{{' ' + continuation}}}}"
metric_list:
  - metric: perplexity
    aggregation: perplexity
    higher_is_better: false
  - metric: acc
    aggregation: mean
    higher_is_better: true
"""
WRITE = """
task: copy_word
dataset_path: json
dataset_kwargs:
  data_files: {file}
output_type: generate_until
test_split: train
doc_to_text: "{{{{context}}}}"
doc_to_target: "{{{{continuation}}}}"
generation_kwargs:
  until: ["."]
  max_gen_toks: 5
metric_list:
  - metric: exact_match
"""
ROWS = [{"context": "the cat sat on", "continuation": "the"}, {"context": "a dog", "continuation": "ran"}]


@pytest.fixture
def run(text_file: Path) -> Path:
    return train(tiny(text_file, *KINDS["transformer"])).path


def task(folder: Path, template: str) -> str:
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
    path = folder / "task.yaml"
    path.write_text(template.format(file=folder / "rows.jsonl"))
    return str(path)


def test_what_is_likely_is_what_the_model_says_by_hand(folder: Path, run: Path) -> None:
    loaded = load_run(run)
    expected, right = [], []
    for row in ROWS:
        before = loaded.tokenizer.encode(row["context"])
        whole = torch.from_numpy(loaded.tokenizer.encode(f"{row['context']} {row['continuation']}"))[-17:]
        count = len(loaded.tokenizer.encode(f"{row['context']} {row['continuation']}")) - len(before)
        with torch.no_grad():
            logits = loaded.model.head.logits(loaded.model(whole[None, :-1])[0])[0, -count:]
        log_p = logits.log_softmax(-1).gather(1, whole[-count:, None])
        expected.append(log_p.sum().item())
        right.append(bool((logits.argmax(-1) == whole[-count:]).all()))
    result = evaluate(str(run), [task(folder, LAST_WORD)])
    values = result["results"]["last_word"]
    assert values["perplexity"] == pytest.approx(math.exp(-sum(expected) / 2), rel=1e-5)
    assert values["acc"] == sum(right) / 2
    assert result["num_examples"] == {"last_word": 2}
    assert json.loads(Path(result["file"]).read_text())["results"] == result["results"]
    assert "last_word: 2 examples" in as_table(result)
    (again,) = Adapter(loaded, batch_size=1).loglikelihood_rolling([Request("the cat sat on the mat and ran")])
    ids = loaded.tokenizer.encode("the cat sat on the mat and ran")
    total, start = 0.0, loaded.tokenizer.end_of_document_id
    with torch.no_grad():
        for first in range(0, len(ids), 16):
            part = torch.from_numpy(ids[first : first + 16])
            before = torch.tensor([start if not first else ids[first - 1]])
            read = torch.cat((before, part[:-1]))
            if len(part) < 16:  # the last window looks back as far as it can
                read = torch.from_numpy(ids[-17:-1])
            nll = loaded.model.head.nll(loaded.model(read[None])[0][:, -len(part) :], part[None])
            total -= nll.double().sum().item()
    assert again == pytest.approx(total, rel=1e-5)


class Request:
    def __init__(self, *args: str) -> None:
        self.args = args


def test_texts_are_written_until_a_stop(folder: Path, run: Path) -> None:
    result = evaluate(str(run), [task(folder, WRITE)])
    assert 0 <= result["results"]["copy_word"]["exact_match"] <= 1


def test_what_cannot_be_asked_is_said_in_one_line(folder: Path, run: Path, text_file: Path) -> None:
    with pytest.raises(DataError, match=r"--harness nothing\.yaml: cannot be read"):
        evaluate(str(run), ["nothing.yaml"])
    (folder / "empty.yaml").write_text("dataset_path: json\n")
    with pytest.raises(DataError, match="names no task"):
        evaluate(str(run), ["empty.yaml"])
    with pytest.raises(DataError, match="--harness no_such_task"):
        evaluate(str(run), ["no_such_task"])
    labels = train(tiny(text_file, *KINDS["lstm that tells labels"])).path
    with pytest.raises(RunError, match="this one does not"):
        evaluate(str(labels), [task(folder, LAST_WORD)])


def test_a_group_of_ones_own_may_hold_tasks_of_the_harness(folder: Path) -> None:
    (folder / "some.yaml").write_text("task:\n  - lambada_openai\n  - last_word\ngroup: some\n")
    assert _named(str(folder / "some.yaml")) == ("some", str(folder), False)
    assert _named(task(folder, LAST_WORD)) == ("last_word", str(folder), True)
