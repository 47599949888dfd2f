"""What a report says of a sweep beside its runs: how the search went, and which choices mattered."""

import importlib.util
from typing import Any

from lmexp.runs.text import number
from lmexp.sweeps.record import DONE, FAILED, PRUNED, Record
from lmexp.sweeps.show import chosen


def sweep_content(record: Record) -> dict[str, Any]:
    """Return the history of a sweep by its first metric, and the importance of each key (fANOVA; extra sweep)."""
    is_lower = record["directions"][0] == "lower"
    best: float | None = None
    history = []
    for trial in record["trials"]:
        value = trial["values"][0] if trial["state"] == DONE and trial["values"] else None
        if value is not None and (best is None or (value < best if is_lower else value > best)):
            best = value
        if trial["state"] in (DONE, PRUNED, FAILED):
            row = {"trial": trial["number"] + 1, "state": trial["state"], "value": value, "best": best}
            history.append(row | {"choices": chosen(trial), "seconds": trial["seconds"]})
    return {
        "name": record["name"],
        "metric": record["metrics"][0],
        "better": record["directions"][0],
        "history": history,
        "importance": _importance(record),
    }


def _importance(record: Record) -> list[dict[str, Any]]:
    if importlib.util.find_spec("optuna") is None or importlib.util.find_spec("sklearn") is None:
        return []
    from lmexp.sweeps.search import importances

    found = importances(record)
    return [
        {"key": key, "share": share, "text": f"{number(round(100 * share))} % of the variance, alone and with others"}
        for key, share in found.items()
    ]
