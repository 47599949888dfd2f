"""Does DPO learn a planted preference, shorter answers, on questions that it has not seen?

    python -m benchmarks.preference RUN [KEY=VALUE ...] [--json FILE]        RUN: one of experiment=sft_demo

The pairs are questions of python_docs_qa: chosen is the first sentence of the answer, rejected the whole. Then, on
held-out questions: how often the reward prefers the chosen answer; how often the answer that the model writes now is
shorter than the one it wrote before (both at temperature 1 with the same seed; equals count as not shorter); and how
far it has gone from where it was, the KL divergence from the reference of what it writes.
"""

import argparse
import json
import math
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from lmexp import compose, load_run, train
from lmexp.checkpoints import LoadedRun
from lmexp.config.chat import PythonDocsQAConfig
from lmexp.data.python_docs_qa import PythonDocsQA
from lmexp.generation.forms import form_of
from lmexp.generation.sampling import Sampling
from lmexp.generation.text import Completion, complete
from lmexp.runs import find_run

SAMPLING = Sampling(temperature=1.0, max_tokens=120)


def write_pairs(folder: Path) -> dict[str, list[str]]:
    """Write the pairs of each split, and return the questions of each."""
    source, questions = PythonDocsQA(PythonDocsQAConfig()), {}
    for split in ("train", "val", "test"):
        rows = []
        for _, conversation in source.conversations(split):
            asked, answer = (message.content for message in conversation.messages)
            short = answer.partition(". ")[0] + "."
            if len(short) < len(answer):
                rows.append({"prompt": asked, "chosen": short, "rejected": answer})
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
        questions[split] = [row["prompt"] for row in rows]
    return questions


def answers(loaded: LoadedRun, questions: list[str]) -> list[Completion]:
    """Return what a run answers, each question with a seed of its own."""
    form = form_of(loaded.config, loaded.tokenizer)
    return list(complete(loaded.model, form, questions, SAMPLING))


@torch.no_grad()
def log_likelihood(loaded: LoadedRun, question: str, answer: Completion) -> float:
    """Return the log-probability of the tokens of an answer, its end included where it has one."""
    form = form_of(loaded.config, loaded.tokenizer)
    asked = form.ids(question)
    ends = sorted(form.ends - {loaded.tokenizer.end_of_document_id})
    ids = torch.tensor([[*asked, *answer.tokens, *(ends if answer.finish_reason == "end" else [])]])
    hidden_BTC, _ = loaded.model(ids[:, :-1])
    scores = loaded.model.head.logits(hidden_BTC[0, len(asked) - 1 :]).float()
    return -F.cross_entropy(scores, ids[0, len(asked) :], reduction="sum").item()


def measure(name: str, overrides: list[str]) -> dict[str, Any]:
    """Train on pairs on top of a run, and return what has become of it."""
    before = load_run(find_run(name).path)
    with tempfile.TemporaryDirectory() as folder:
        questions = write_pairs(Path(folder))["test"]
        config = compose(
            "train",
            [
                *("experiment=dpo", f"init_from={before.run.path}", f"data.path={folder}", "logger=none"),
                *("data.context_length=256", "data.batch_size=8", "callbacks.samples.prompts=[]"),
                *overrides,
            ],
        )
        after = load_run(train(config).path)
    first, now = answers(before, questions), answers(after, questions)
    log_ratios = [
        log_likelihood(after, question, answer) - log_likelihood(before, question, answer)
        for question, answer in zip(questions, now, strict=True)
    ]
    mean = sum(log_ratios) / len(log_ratios)
    spread = math.sqrt(sum((ratio - mean) ** 2 for ratio in log_ratios) / (len(log_ratios) - 1))
    tokens = [len(answer.tokens) for answer in now]
    return {
        "run": str(after.run.path),
        "held_out_questions": len(questions),
        "preferred_by_reward": after.run.record["metrics"]["test/accuracy"],
        "shorter_than_before": sum(len(b.text) < len(a.text) for a, b in zip(first, now, strict=True)) / len(now),
        "mean_characters_before": sum(len(answer.text) for answer in first) / len(first),
        "mean_characters_now": sum(len(answer.text) for answer in now) / len(now),
        "kl_nats_an_answer": mean,
        "kl_standard_error": spread / math.sqrt(len(log_ratios)),
        "kl_nats_a_token": sum(log_ratios) / max(1, sum(tokens)),
    }


def main() -> None:
    """Print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="a run of experiment=sft_demo")
    parser.add_argument("overrides", nargs="*", help="as lmexp train takes them")
    parser.add_argument("--json", help="write the numbers to this file, too")
    options = parser.parse_args()
    result = measure(options.run, options.overrides)
    for key, value in result.items():
        print(f"{key.replace('_', ' '):<24}{value:.3f}" if isinstance(value, float) else f"{key:<24}{value}")
    if options.json:
        Path(options.json).write_text(json.dumps(result, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
