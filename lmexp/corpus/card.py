"""The data card of a corpus: what it was made from, what each stage did, what was left out with examples.

Written three times over: README.md for people and for Hugging Face, card.html with plots, corpus.json for programs.
Source: Gebru et al. 2021, Datasheets for datasets; Pushkarna et al. 2022, Data cards
"""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from datatrove.pipeline.base import PipelineStep

from lmexp import __version__
from lmexp.config.corpus import PrepareConfig
from lmexp.config.store import to_dict
from lmexp.corpus.card_page import page, shown
from lmexp.corpus.prepare import MANIFEST, publish, rows_of
from lmexp.corpus.redaction import redact
from lmexp.corpus.sources import Input, is_read
from lmexp.corpus.stages import FORMAT, LIBRARIES, SPLITS, Stage

EXAMPLES, PROBLEMS = 3, 200
EXCERPT = 160


@dataclass(frozen=True)
class Card:
    """What a card is made from."""

    config: PrepareConfig
    inputs: list[Input]
    licenses: dict[str, str | None]
    stages: list[Stage]
    out: Path

    def content(self) -> dict[str, Any]:
        """Return what the card says, before the text is in its place."""
        from importlib.metadata import version

        stages = [self._stage(stage) for stage in self.stages]
        problems = [problem for path in self._files("problems/*.json", 0) for problem in json.loads(path.read_text())]
        unread = [one for one in self.inputs if not is_read(one)]
        last = stages[-1]
        redacted: dict[str, int] = next((one["redacted"] for one in stages if one["name"] == "redact"), {})
        return {
            "format": FORMAT,
            "key": self.stages[-1].folder.name,
            "name": self.out.resolve().name,
            "documents": sum(last["documents"].values()),
            "bytes": sum(last["bytes"].values()),
            "licenses": self.licenses,
            "audited": self.config.corpus.redact.audit,
            "sources": self._sources(stages),
            "stages": [
                {**stage, "documents": sum(stage["documents"].values()), "bytes": sum(stage["bytes"].values())}
                for stage in stages
            ],
            "languages": last["languages"],
            "lengths": last["lengths"],
            "redacted": redacted,
            "num_problems": len(problems) + len(unread),
            "problems": problems[:PROBLEMS],
            "not_read": dict(Counter(Path(one.name).suffix.lower() or "(no ending)" for one in unread)),
            "audit": self._audit(),
            "config": to_dict(self.config.corpus),
            "versions": {"lmexp": __version__, **{name: version(name) for name in LIBRARIES}},
        }

    def _sources(self, stages: list[dict[str, Any]]) -> dict[str, Any]:
        first, last = stages[0], stages[-1]
        return {
            source: {
                "license": license_,
                "files": sum(one.source == source for one in self.inputs),
                "bytes_read": sum(one.num_bytes for one in self.inputs if one.source == source),
                "documents_read": first["documents"].get(source, 0),
                "documents": last["documents"].get(source, 0),
                "bytes": last["bytes"].get(source, 0),
            }
            for source, license_ in self.licenses.items()
        }

    def _stage(self, stage: Stage) -> dict[str, Any]:
        found: dict[str, Any] = {
            key: Counter() for key in ("documents", "bytes", "languages", "lengths", "redacted", "dropped")
        }
        for path in sorted(stage.tally.glob("*.json")):
            for key, counts in json.loads(path.read_text()).items():
                found[key].update(counts)
        examples: dict[str, list[dict[str, str]]] = {}
        for path in sorted((stage.folder / "dropped").glob("*/*.jsonl")):
            for row in rows_of(path):
                reason = f"{row['step']}: {row['reason']}" if row["reason"] != row["step"] else row["step"]
                found["dropped"][reason] += 1
                of_reason = examples.setdefault(reason, [])
                if len(of_reason) < EXAMPLES:
                    of_reason.append({"id": row["id"], "text": self._excerpt(row["text"])})
        counts = {key: _sorted(value) for key, value in found.items()}
        return {"name": stage.name, **counts, "examples": examples}

    def _excerpt(self, text: str) -> str:
        redacted = redact(text[: 2 * EXCERPT], self.config.corpus.redact.kinds)[0]
        return " ".join(redacted.split())[:EXCERPT]

    def _files(self, pattern: str, stage: int) -> list[Path]:
        return sorted(self.stages[stage].folder.glob(pattern))

    def _audit(self) -> dict[str, Any] | None:
        count = self.config.corpus.redact.audit
        if not count:
            return None
        from lmexp.corpus.audit import audit

        texts = (row["text"] for path in self._files("documents/*.jsonl", -1) for row in rows_of(path))
        return audit(texts, count)


class Finish(PipelineStep):
    """Publishes the text and writes the card; a step, so that a cluster can do it when all else is done."""

    name, type = "card", "lmexp"

    def __init__(self, card: Card) -> None:
        super().__init__()
        self.card = card

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> None:
        card, out = self.card, self.card.out
        content = card.content()
        publish(card.stages, out, card.config.corpus.redact.kinds)
        content["splits"] = {split: _split(out, split) for split in SPLITS}
        content["fingerprint"] = _fingerprint(out)
        _write(out / "README.md", markdown(content))
        _write(out / "card.html", page(content))
        content["made"] = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "seconds": _seconds(card.stages)}
        _write(out / MANIFEST, json.dumps(content, indent=1, ensure_ascii=False))  # last: it says that all is there


def _sorted(counts: Counter[str]) -> dict[str, int]:
    """Return counts, the largest first."""
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _split(out: Path, split: str) -> dict[str, Any]:
    files = sorted((out / "data").glob(f"{split}-*.jsonl"))
    documents = sum(1 for path in files for _ in rows_of(path))
    return {"documents": documents, "files": {f"data/{path.name}": path.stat().st_size for path in files}}


def _fingerprint(out: Path) -> str:
    whole = hashlib.blake2b(digest_size=8)
    for path in sorted((out / "data").glob("*.jsonl")):
        with open(path, "rb") as file:
            whole.update(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return whole.hexdigest()


def _seconds(stages: list[Stage]) -> dict[str, float]:
    return {
        one.name: float((one.folder / "seconds").read_text()) for one in stages if (one.folder / "seconds").is_file()
    }


def _write(path: Path, text: str) -> None:
    part = path.with_name(f".{path.name}.part")
    with open(part, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.rename(path)


def markdown(content: dict[str, Any]) -> str:
    """Return the card as Markdown, with the head that Hugging Face reads."""
    return "\n".join(_lines(content)) + "\n"


def _lines(content: dict[str, Any]) -> Iterator[str]:
    licenses = sorted({value for value in content["licenses"].values() if value})
    yield from ("---", "configs:", "- config_name: default", "  data_files:")
    for split, of_split in content["splits"].items():
        if of_split["files"]:
            yield from (f"  - split: {'validation' if split == 'val' else split}", f"    path: data/{split}-*.jsonl")
    if licenses:
        yield from ("license: other", f"license_name: {json.dumps(', '.join(licenses), ensure_ascii=False)}")
    known = [code for code in content["languages"] if len(code) == 2]
    yield from ([f"language: [{', '.join(known)}]"] if known else [])
    yield from ("---", "", f"# {content['name']}", "")
    parts = ", ".join(f"{split} {one['documents']:,}" for split, one in content["splits"].items())
    size = f"{content['documents']:,} documents, {content['bytes'] / 1e6:,.2f} MB of text"
    yield f"{size} ({parts}); made by `lmexp prepare`."
    yield from ("", f"Fingerprint `{content['fingerprint']}`; a page with plots is in card.html.", "")
    yield from ("## Sources", "")
    yield from _table(
        ["source", "licence", "files", "MB read", "documents read", "documents kept", "MB kept"],
        (
            (
                *(name, one["license"] or "not stated", one["files"], one["bytes_read"] / 1e6),
                *(one["documents_read"], one["documents"], one["bytes"] / 1e6),
            )
            for name, one in content["sources"].items()
        ),
    )
    yield from ("## Stages", "")
    yield from _table(
        ["stage", "documents", "MB", "dropped"],
        (
            [one["name"], one["documents"], one["bytes"] / 1e6, sum(one["dropped"].values())]
            for one in content["stages"]
        ),
    )
    if any(one["dropped"] for one in content["stages"]):
        yield from ("## What was dropped", "", "All of it, each with its step and reason, is in dropped/.", "")
        for stage in content["stages"]:
            for reason, count in stage["dropped"].items():
                yield from (f"### {stage['name']}, {reason}: {count:,}", "")
                yield from (f"- {one['id']}: {_quoted(one['text'])}" for one in stage["examples"][reason])
                yield ""
    if content["redacted"]:
        yield from ("## Personal data made placeholders", "")
        yield from _table(["kind", "finds"], content["redacted"].items())
    if content["audit"]:
        yield from _audit_lines(content["audit"])
    yield from ("## Languages", "")
    yield from _table(["language", "documents"], ((name or "not asked", n) for name, n in content["languages"].items()))
    yield from ("## Lengths", "")
    yield from _table(["characters", "documents"], lengths(content))
    if content["num_problems"]:
        yield from (f"## Not read: {content['num_problems']:,}", "")
        for suffix, count in content["not_read"].items():
            yield f"- {count:,} ending in {suffix}: a format that is not read here"
        yield from (f"- {one['source']}/{one['file']}: {one['problem']}" for one in content["problems"])
        yield ""
    yield from ("## Config", "", "```json", json.dumps(content["config"], indent=1, ensure_ascii=False), "```", "")
    yield from ("Made with " + ", ".join(f"{name} {value}" for name, value in content["versions"].items()) + ".",)


def _audit_lines(audit: dict[str, Any]) -> Iterator[str]:
    yield from ("## Audit by presidio", "", f"Of {audit['documents']:,} documents after redaction it still marks:", "")
    yield from _table(["kind", "finds"], audit["finds"].items())


def lengths(content: dict[str, Any]) -> list[tuple[str, int]]:
    """Return how many documents there are of each length, from power of two to power of two."""
    bins = sorted((int(bits), count) for bits, count in content["lengths"].items())
    return [(f"{2 ** max(0, bits - 1):,} to {2**bits - 1:,}", count) for bits, count in bins]


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _table(head: list[str], rows: Any) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield "| " + " | ".join(shown(cell).replace("|", "\\|").replace("\n", " ") for cell in row) + " |"
    yield ""
