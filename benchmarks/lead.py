"""Is a run's summary nearer to people's than the first three sentences of the text?

    python -m benchmarks.lead RUN [--split val] [--sentences 3]

RUN learned summaries as conversations of one question (`task=sft`, `task.num_answers`). Its own ROUGE, before its first
step and at its end, stands beside that of the first sentences of the same examples.
"""

import argparse
import re
import sys

from lmexp.checkpoints import load_run
from lmexp.config.task import TextMetric
from lmexp.data.corpus import prepare
from lmexp.generation.forms import form_of
from lmexp.metrics import score_texts
from lmexp.runs import find_run
from lmexp.tasks.answers import questions_of

NAMES = ("rouge1", "rouge2", "rougeL")
INSTRUCTION = re.compile(r"^.*?\n\nArticle: |\n\n===\n\nWrite a summary of the text above :\s*$", re.DOTALL)
"""What the two sets of 200 ask around an article."""
SENTENCE_END = re.compile(r"(?<=[.!?])[\"'\u201d\u2019]?\s+(?=[\"'\u201c\u2018]?[A-Z0-9])")


def lead(question: str, sentences: int) -> str:
    """Return the first sentences of what a question asks about.

    Example:
        >>> lead("Sum it up.\\n\\nArticle: One. Two! Three? Four.", 3)
        'One. Two! Three?'
    """
    text = INSTRUCTION.sub("", question).strip()
    ends = [match.start() for match in SENTENCE_END.finditer(text)]
    return text[: ends[sentences - 1]] if len(ends) >= sentences else text


def main() -> int:
    """Print the scores of the run and of the first sentences."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run")
    parser.add_argument("--split", default="val")
    parser.add_argument("--sentences", type=int, default=3)
    options = parser.parse_args()
    run = find_run(options.run)
    config, loaded = run.config, load_run(options.run)
    form = form_of(config, loaded.tokenizer)
    file = prepare(config.data, config.tokenizer).open(options.split)
    questions = questions_of(file, config.data, form, getattr(config.task, "num_answers", 0))
    asked = [loaded.tokenizer.decode(question.ids) for question in questions]
    found = [lead(text, options.sentences) for text in asked]
    rows = [row for row in run.metrics if f"{options.split}/rouge1" in row]
    lines = {
        f"the first {options.sentences} sentences": score_texts(
            found, [question.answer for question in questions], [TextMetric.rouge]
        )
    }
    lines |= {
        f"step {row['step']}": {name: row[f"{options.split}/{name}"] for name in NAMES} for row in (rows[0], rows[-1])
    }
    print(f"{len(questions)} examples of {options.split}; {sum(map(len, asked)) // len(asked)} characters a text")
    for name, scores in lines.items():
        print(f"{name:<24}" + "  ".join(f"{key} {scores[key]:.3f}" for key in NAMES))
    return 0


if __name__ == "__main__":
    sys.exit(main())
