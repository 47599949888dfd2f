"""What presidio still finds in redacted text: a second opinion, slower than ours by two orders of magnitude.

Its own engine would fetch a model; here it has its patterns and a blank English tokenizer, so names and places are not
looked for.
Source: https://microsoft.github.io/presidio/
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from lmexp.errors import MissingPackageError

PLACEHOLDER = re.compile(r"\[[A-Z_]+\]")
SURE = 0.5
"""Presidio's own threshold for a find that has no context is lower, and its finds below it are mostly dates."""
MAX_CHARACTERS = 100_000
CONSIDERED_OTHERWISE = {"URL", "DATE_TIME", "NRP"}
"""What presidio marks and we do not call personal."""


def audit(texts: Iterable[str], count: int) -> dict[str, Any]:
    """Return what is still found in the first `count` texts, by presidio's names of kinds."""
    engine, finds, documents = _engine(), Counter[str](), 0
    for text in islice(texts, count):
        documents += 1
        text = PLACEHOLDER.sub(" ", text[:MAX_CHARACTERS])
        results = engine.analyze(text=text, language="en", score_threshold=SURE)
        finds.update(one.entity_type for one in results if one.entity_type not in CONSIDERED_OTHERWISE)
    return {"documents": documents, "finds": dict(finds.most_common())}


def _engine() -> Any:
    try:
        import spacy
        import tldextract.tldextract
        from presidio_analyzer import AnalyzerEngine, RecognizerRegistry
        from presidio_analyzer.nlp_engine import NlpArtifacts, NlpEngine
    except ModuleNotFoundError:
        raise MissingPackageError("presidio-analyzer", "audit") from None

    # it would fetch a list of domains, and says so at length where there is no network
    tldextract.tldextract.TLD_EXTRACTOR = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)

    class Blank(NlpEngine):
        """Tokens and nothing else."""

        def __init__(self) -> None:
            self.nlp = spacy.blank("en")

        def load(self) -> None:
            """Nothing is loaded."""

        def is_loaded(self) -> bool:
            return True

        def process_text(self, text: str, language: str) -> Any:
            doc = self.nlp(text)
            lemmas = [token.text.lower() for token in doc]
            return NlpArtifacts([], doc, [token.idx for token in doc], lemmas, self, language)

        def process_batch(
            self, texts: Iterable[str], language: str, batch_size: int = 1, n_process: int = 1, **options: Any
        ) -> Iterator[tuple[str, NlpArtifacts]]:
            yield from ((text, self.process_text(text, language)) for text in texts)

        def is_stopword(self, word: str, language: str) -> bool:
            return bool(self.nlp.vocab[word].is_stop)

        def is_punct(self, word: str, language: str) -> bool:
            return bool(self.nlp.vocab[word].is_punct)

        def get_supported_entities(self) -> list[str]:
            return []

        def get_supported_languages(self) -> list[str]:
            return ["en"]

    registry = RecognizerRegistry()
    registry.load_predefined_recognizers(languages=["en"])
    return AnalyzerEngine(nlp_engine=Blank(), registry=registry, supported_languages=["en"])
