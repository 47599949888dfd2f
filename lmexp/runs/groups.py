"""Runs that differ in nothing but their seed, as groups with letters, and the group that others are put beside."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from lmexp.errors import RunError
from lmexp.runs import statistics
from lmexp.runs.index import Entry
from lmexp.runs.likeness import differing_keys, short_names
from lmexp.runs.metrics import Direction
from lmexp.runs.text import number, one_line
from lmexp.runs.where import look_up, parse_where


@dataclass(frozen=True)
class Score:
    """The metric of one run."""

    run: str
    seed: int | None
    value: float


@dataclass
class Group:
    """Runs that differ in their seed only, and what their metric comes to."""

    id: str
    values: dict[str, Any]
    label: str
    scores: list[Score]
    entries: list[Entry] = field(repr=False)
    mean: float
    sd: float | None
    low: float | None
    high: float | None

    @property
    def n(self) -> int:
        """Seeds."""
        return len(self.scores)

    @property
    def numbers(self) -> list[float]:
        """The metric, a number a seed."""
        return [score.value for score in self.scores]


def groups_of(scored: Sequence[tuple[Entry, float]], direction: Direction) -> list[Group]:
    """Return the groups in the order of their means, the best first; letters go by age, so that they stay."""
    members: dict[str, list[tuple[Entry, float]]] = {}
    for entry, value in scored:
        members.setdefault(entry.group, []).append((entry, value))
    values = differing_keys([pairs[0][0] for pairs in members.values()])
    names = short_names(values[0]) if values else {}
    groups = []
    for place, pairs in enumerate(members.values()):
        scores = [Score(entry.id, entry.brief.get("seed"), value) for entry, value in pairs]
        spread = statistics.spread([score.value for score in scores])
        label = " ".join(f"{names[name]}={number(value)}" for name, value in values[place].items() if value is not None)
        groups.append(
            Group(
                id=letters(place),
                values=values[place],
                label=label or pairs[0][0].title,
                scores=scores,
                entries=[entry for entry, _ in pairs],
                mean=spread.mean,
                sd=spread.sd,
                low=spread.low,
                high=spread.high,
            )
        )
    return sorted(groups, key=lambda group: group.mean, reverse=direction is Direction.higher)


def letters(place: int) -> str:
    """Return A, B, ..., Z, AA, AB, ..."""
    name = ""
    place += 1
    while place:
        place, rest = divmod(place - 1, 26)
        name = chr(ord("A") + rest) + name
    return name


def baseline_of(text: str | None, groups: Sequence[Group]) -> Group:
    """Return the group that a person means, the oldest when nothing is said.

    Raises:
        RunError: it is none, or several.
    """
    if text is None:
        return min(groups, key=_letters)
    found = [group for group in groups if text in (group.id, group.label)]
    if not found:
        found = [group for group in groups if any(text in (e.id, e.path.name, str(e.path)) for e in group.entries)]
    if not found:
        found = [group for group in groups if any(text in entry.id for entry in group.entries)]
    if not found and "=" in text:
        holds = parse_where(text)[0] if "==" in text else _equals(text)
        found = [group for group in groups if holds(group.entries[0])]
    if len(found) == 1:
        return found[0]
    count = "no group" if not found else f"{len(found)} groups"
    wrong = f"--baseline {one_line(text)} means {count}; choose a letter, or a run of the group:"
    raise RunError("\n".join([wrong, *by_letter(groups)]))


def by_letter(groups: Sequence[Group]) -> list[str]:
    """Return a line a group, from A on."""
    return [f"{group.id}  {one_line(group.label)}" for group in sorted(groups, key=_letters)]


def _letters(group: Group) -> tuple[int, str]:
    return len(group.id), group.id


def _equals(text: str) -> Any:
    """Return the condition key=value, as it is written for `lmexp train`."""
    key, _, value = text.partition("=")
    return lambda entry: str(look_up(entry, key)) == value or number(look_up(entry, key)) == value
