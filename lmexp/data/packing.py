"""Which conversations are trained on, and which share a row: as many as fit, without seeing each other.

An example of n ids gives n - 1 pairs of a token and the next one, which is what takes room in a row. No torch here.
"""

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lmexp.config.chat import ConversationsConfig, TooLong
from lmexp.config.data import DataConfig
from lmexp.errors import DataError
from lmexp.tokenization import TokenFile

Bin = list[int]
"""The numbers of the units in a row."""


@dataclass(frozen=True)
class Examples:
    """The examples of a split that have something to learn in a row.

    A unit is what stays together: one conversation, or the two of a pair, side by side in one row.
    Shapes: U units, E examples of a unit.
    """

    starts: NDArray[np.int64]
    """Where each example begins in the split; (U, E)."""
    lengths: NDArray[np.int64]
    """Pairs of a token and the next one, after what is too long was cut; (U, E)."""
    num_learned: NDArray[np.int64]
    """Tokens of a unit that are learned; (U)."""
    numbers: NDArray[np.int64]
    """Which unit of the split it is; (U)."""
    num_cut: int
    num_dropped: int
    """Too long."""
    num_empty: int
    """Nothing to learn, or nothing after the cut."""


def usable(file: TokenFile, config: DataConfig) -> Examples:
    """Return the examples of a split that are trained on, and how many are not."""
    assert file.is_learned is not None
    assert isinstance(config, ConversationsConfig)
    starts = np.asarray(file.document_starts)
    starts_UE, whole_UE = (
        values.reshape(-1, config.examples_per_unit) for values in (starts, np.diff(starts, append=len(file.ids)) - 1)
    )
    others_UE = whole_UE.sum(axis=1, keepdims=True) - whole_UE
    share = config.context_length // config.examples_per_unit
    lengths_UE = np.minimum(whole_UE, np.maximum(share, config.context_length - others_UE))
    learned_before = np.concatenate(([0], np.cumsum(file.is_learned)))
    num_learned_UE = learned_before[starts_UE + 1 + lengths_UE] - learned_before[starts_UE + 1]  # not the first token
    is_long_U = (whole_UE > lengths_UE).any(axis=1)
    is_dropped_U = is_long_U & (config.too_long is TooLong.drop)
    is_empty_U = ~is_dropped_U & (num_learned_UE == 0).any(axis=1)
    kept_U = ~is_dropped_U & ~is_empty_U
    return Examples(
        starts_UE[kept_U],
        lengths_UE[kept_U],
        num_learned_UE[kept_U].sum(axis=1),
        np.flatnonzero(kept_U),
        num_cut=int((is_long_U & kept_U).sum()),
        num_dropped=int(is_dropped_U.sum()),
        num_empty=int(is_empty_U.sum()),
    )


def require_learnable(file: TokenFile, config: DataConfig, split: str) -> None:
    """Raise unless a split has an example with something to learn in it.

    Raises:
        DataError: it has none, saying why.
    """
    examples = usable(file, config)
    if len(examples.starts):
        return
    if examples.num_dropped:
        reason = f"all {examples.num_dropped:,} are too long; raise data.context_length, or cut them"
    else:
        reason = f"{examples.num_empty:,} have no answer to learn in the first {config.context_length} tokens"
    raise DataError(f"the {split} split has no conversation to learn from: {reason}")


def summary(file: TokenFile, config: DataConfig) -> dict[str, int | float]:
    """Return how many units of a split are used, cut and left out, and how full its rows are."""
    assert isinstance(config, ConversationsConfig)
    examples = usable(file, config)
    lengths = examples.lengths.sum(axis=1)
    rows = bins_of(examples.lengths, config)
    width = config.context_length if config.packing else int(lengths.max(initial=0))
    return {
        "used": len(examples.starts),
        "cut": examples.num_cut,
        "too_long": examples.num_dropped,
        "nothing_to_learn": examples.num_empty,
        "rows": len(rows),
        "filled": float(lengths.sum() / max(1, len(rows) * width)),
        "learned_share": float(examples.num_learned.sum() / max(1, len(rows) * width)),
    }


def remarks(split: str, counts: dict[str, int | float], config: DataConfig) -> Iterator[str]:
    """Yield what a person should know about the conversations of a split."""
    assert isinstance(config, ConversationsConfig)
    units = "conversations" if config.examples_per_unit == 1 else "pairs"
    fits = f"longer than data.context_length={config.context_length}"
    if counts["cut"]:
        yield f"{split}: {counts['cut']:,} of {counts['used']:,} {units} are {fits} and are cut"
    if counts["too_long"]:
        yield f"{split}: {counts['too_long']:,} {units} are {fits} and are left out"
    if counts["nothing_to_learn"]:
        yield f"{split}: {counts['nothing_to_learn']:,} {units} have no answer to learn and are left out"


def pack(lengths: NDArray[np.int64], room: int) -> list[Bin]:
    """Return bins of items that fit into `room` together: best fit, the longest first.

    The number of bins, and what each is filled to, depend on the lengths alone and not on their order.
    """
    bins: list[Bin] = []
    spaces: list[tuple[int, int]] = []  # what is left in a bin, and its number; sorted
    for item in np.argsort(-lengths, kind="stable").tolist():
        length = int(lengths[item])
        place = bisect_left(spaces, (length, -1))
        if place == len(spaces):
            bins.append([item])
            left, number = room - length, len(bins) - 1
        else:
            space, number = spaces.pop(place)
            bins[number].append(item)
            left = space - length
        spaces.insert(bisect_left(spaces, (left, number)), (left, number))
    return bins


def bins_of(lengths_UE: NDArray[np.int64], config: ConversationsConfig) -> list[Bin]:
    """Return which units share a row."""
    if not config.packing:
        return [[unit] for unit in range(len(lengths_UE))]
    return pack(lengths_UE.sum(axis=1), config.context_length)
