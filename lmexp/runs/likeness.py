"""What runs have in common and what not: the keys that differ, and what makes a comparison meaningless."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from lmexp.config.store import is_identity
from lmexp.runs.index import Entry
from lmexp.runs.metrics import PER_TOKEN, last_part
from lmexp.runs.text import number

NO_QUALITY = ("tokens_per_second", "seconds", "seconds_trained", "memory_bytes", "peak_memory_bytes")
"""Metrics of cost, which mean the same whatever was learned from."""
SAME_BUDGET = 0.01
"""Share by which the tokens of two groups may differ and still be called the same budget."""
RECORDED = ("data_fingerprint", "tokenizer_hash")
"""What the record knows better than the config: other files under the same keys."""


def differing_keys(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """Return, for each of some runs of different groups, the keys that differ between them and its values.

    Where an option differs (model=lstm, transformer), keys that only one of the options has are left out: they follow
    from it. What follows from the data (its fingerprint) is shown only where no key explains it.
    """
    if len(entries) < 2:
        return [{} for _ in entries]
    configs = [entry.config for entry in entries]
    found = {}
    for key in dict.fromkeys(key for config in configs for key in config):
        values = [config.get(key) for config in configs]
        if key == "seed" or all(value == values[0] for value in values):
            continue
        if not is_identity(key, next(config for config in configs if key in config)):
            continue
        group = key.split(".")[0]
        is_new = any(config.get(f"{group}.name") != configs[0].get(f"{group}.name") for config in configs)
        if is_new and any(key not in config for config in configs):
            continue
        found[key] = values
    for key in RECORDED:
        values = [entry.get(key) for entry in entries]
        by_key = {str([known[place] for known in found.values()]): value for place, value in enumerate(values)}
        if any(by_key[str([known[place] for known in found.values()])] != value for place, value in enumerate(values)):
            found[key] = values
    if not found:
        found["run"] = [entry.path.name for entry in entries]
    return [{key: values[place] for key, values in found.items()} for place in range(len(entries))]


def short_names(keys: dict[str, Any]) -> dict[str, str]:
    """Return the shortest name of each key that no other has: model for model.name, hidden_size."""
    last = Counter(_short(key) for key in keys)
    return {key: _short(key) if last[_short(key)] == 1 else key for key in keys}


def unlike(one: Entry, other: Entry, metric: str, *, at_end: bool) -> str | None:
    """Return why a metric of two runs cannot be compared, and what can be done; None when it can."""
    part = last_part(metric)
    if part in NO_QUALITY:
        return None
    if one.brief.get("task") != other.brief.get("task"):
        return (
            f"they learn different things (task={number(one.brief.get('task'))} and "
            f"{number(other.brief.get('task'))}), so {metric} is not the same measure"
        )
    if one.brief.get("data_fingerprint") != other.brief.get("data_fingerprint"):
        return (
            "they were trained and measured on other data; measure both on the same: lmexp evaluate RUN data=..., "
            "or compare runs of one text: --where 'data_fingerprint == \""
            f"{number(other.brief.get('data_fingerprint'))}\"'"
        )
    if part in PER_TOKEN and one.brief.get("tokenizer_hash") != other.brief.get("tokenizer_hash"):
        split = metric.rpartition("/")[0]
        return f"their tokenizers differ, and {metric} is a loss a token: --metric {split}/bits_per_byte"
    mine, theirs = one.brief.get("tokens"), other.brief.get("tokens")
    if at_end and mine and theirs and abs(mine - theirs) > SAME_BUDGET * max(mine, theirs):
        return (
            f"they saw {number(mine)} and {number(theirs)} tokens; compare them where both have been: --at tokens, "
            "--at flops or --at seconds; or as they are: --at end"
        )
    return None


def _short(key: str) -> str:
    parts = key.split(".")
    return parts[-2] if parts[-1] == "name" and len(parts) > 1 else parts[-1]
