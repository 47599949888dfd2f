"""What a model reads and what it is trained on: the first batch of a run, before it is trained."""

from collections.abc import Sequence
from itertools import groupby

from rich.text import Text

from lmexp.config.data import AUTO
from lmexp.config.schema import built_class
from lmexp.config.train import TrainConfig
from lmexp.data.corpus import check_length, prepare
from lmexp.data.counts import has_examples, remarks, summary
from lmexp.data.order import training_batches
from lmexp.errors import ConfigError
from lmexp.models.adapters import mask_id
from lmexp.runs.terminal import as_lines
from lmexp.tasks.base import Shown, Task
from lmexp.tokenization import Tokenizer

LEARNED, READ, SPECIAL, BORDER = "bold green", "", "cyan", "dim"
BRACKETS = ("\u27e6", "\u27e7")
"""Around what is learned, for eyes and terminals without colours."""


def show(config: TrainConfig, *, rows: int = 4, width: int | None = None) -> str:
    """Return the first rows of the first batch for a terminal, what is learned in green and in brackets.

    Raises:
        LmexpError: the text cannot be prepared.
    """
    if config.data.batch_size == AUTO:
        raise ConfigError("data.batch_size=auto is settled when a run begins; give a number to see a batch")
    corpus = prepare(config.data, config.tokenizer)
    check_length(corpus, config.data, accumulate=config.trainer.accumulate)
    accumulate = config.trainer.accumulate
    batch = training_batches(corpus.open("train"), config.data, seed=config.seed, accumulate=accumulate)[0]
    task: type[Task] = built_class(config.task)
    text = Text()
    num_rows = len(batch["tokens_BT"])
    positions = sum(batch[key].numel() for key in ("source_BS", "tokens_BT") if key in batch)
    shown = list(task.shown(batch, config, corpus.tokenizer))
    learned = sum(token.is_learned for row in shown for token in row)
    labels = [corpus.labels[label] for label in batch["labels_B"].tolist()] if "labels_B" in batch else []
    filled = batch.get("num_tokens", positions)
    for number, row in enumerate(shown[:rows], start=1):
        text.append(f"row {number}", BORDER)
        if labels:
            text.append(f"  {BRACKETS[0]}{labels[number - 1]}{BRACKETS[1]}", LEARNED)
        text.append("\n")
        for position, (segment, tokens) in enumerate(groupby(row, key=lambda token: token.segment)):
            part = list(tokens)
            if segment is None:
                text.append(f"\n({len(part):,} positions empty)", BORDER)
                continue
            if position:
                text.append("\n--- the next one, which does not see what is above ---\n", BORDER)
            _append(text, part, corpus.tokenizer)
        text.append("\n\n")
    if num_rows > rows:
        text.append(f"and {num_rows - rows} more rows\n", BORDER)
    what = f"{learned:,} ({learned / max(1, filled):.0%})" if not labels else f"{len(labels)} labels"
    text.append(
        f"batch 1 of {config.data.name}: {num_rows} rows; {filled:,} of {positions:,} positions hold "
        f"tokens, {what} are learned: {BRACKETS[0]}so"
        f"{BRACKETS[1]}"
    )
    if has_examples(config.data):
        counts = summary(corpus.open("train"), config.data)
        text.append(f"; over the whole split {counts['filled']:.1%} of the positions hold tokens")
        for remark in remarks("train", counts, config.data):
            text.append(f"\n{remark}")
    return as_lines(text, width=width)


def _append(text: Text, tokens: Sequence[Shown], tokenizer: Tokenizer) -> None:
    names = {i: name for name, i in tokenizer.special_ids.items()}
    if tokenizer.end_of_document_id is not None:
        names.setdefault(tokenizer.end_of_document_id, "<end>")
    names.setdefault(mask_id(tokenizer), "<mask>")
    for is_learned, group in groupby(tokens, key=lambda token: token.is_learned):
        style = LEARNED if is_learned else READ
        text.append(BRACKETS[0] if is_learned else "", style)
        for is_special, part in groupby((token.token for token in group), key=lambda i: i in names):
            ids = list(part)
            if is_special:
                text.append("".join(names[i] for i in ids), f"{SPECIAL} bold" if is_learned else SPECIAL)
            else:
                text.append((tokenizer if is_learned else tokenizer.source or tokenizer).decode(ids), style)
        text.append(BRACKETS[1] if is_learned else "", style)
