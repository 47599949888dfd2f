"""Stand-ins for all tests: an empty working folder, a cache of their own, and a small corpus made here."""

import gc
import os
import random
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["WANDB_MODE"] = "offline"
SHARED = Path(__file__).parents[2] / "shared" / "data"


def pytest_collection_finish() -> None:
    """Leave out of every later collection of garbage what is there for the whole session: libraries and tests."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep tokenized text out of the user's cache, shared by the tests of a session."""
    cache = tmp_path_factory.getbasetemp() / "cache"
    monkeypatch.setenv("LMEXP_CACHE", str(cache))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def text_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """About 60,000 characters of made-up sentences with a grammar that a small model can learn."""
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(sentences(60_000), encoding="utf-8")
    return path


def sentences(num_characters: int, seed: int = 0) -> str:
    """Return sentences of a small grammar, the same ones for the same seed."""
    rng = random.Random(seed)
    words = {
        "who": ["the cat", "a dog", "my teacher", "the old queen", "nobody"],
        "does": ["sees", "finds", "loves", "forgets", "paints"],
        "what": ["a red house", "the river", "every word", "the last train", "a small bird"],
        "when": ["today", "in spring", "at night", "before noon", "twice"],
    }
    lines, length = [], 0
    while length < num_characters:
        line = " ".join(rng.choice(options) for options in words.values()) + "."
        lines.append(line)
        length += len(line) + 1
    return "\n".join(lines) + "\n"


@pytest.fixture
def shared_data() -> Path:
    """The real data beside the repository; a test that needs it says so when it is not there."""
    if not SHARED.is_dir():
        pytest.skip(f"no real data at {SHARED}")
    return SHARED
