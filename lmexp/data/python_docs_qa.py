"""Questions about Python's standard library, answered by the first paragraph of a docstring: conversations on every
machine, without a download.

The split is that of `python_docs`, by module; an answer that is written in the training text, too, is not held out.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from functools import cached_property

from lmexp.config.chat import PythonDocsQAConfig
from lmexp.data.conversations import Conversations
from lmexp.data.messages import Conversation, Message, Role
from lmexp.data.python_docs import PythonDocs, split_of

QUESTIONS = {
    "Module": ("What is the module {} for?", "What does the module {} provide?", "Describe the module {}."),
    "ClassDef": ("What is {}?", "What is the class {} for?", "Describe the class {}."),
    "FunctionDef": ("What does {} do?", "Explain {}.", "What is {} for?"),
}
SHORTEST, LONGEST = 20, 400
"""Characters of an answer."""


class PythonDocsQA(Conversations):
    """One question about each module, class and function."""

    config: PythonDocsQAConfig

    @cached_property
    def fingerprint(self) -> str:
        content = [(split, *pair) for split, pairs in self._pairs.items() for pair in pairs]
        return hashlib.blake2b(json.dumps(content).encode(), digest_size=8).hexdigest()

    def conversations(self, split: str) -> Iterator[tuple[str, Conversation]]:
        for name, question, answer in self._pairs[split]:
            messages = [Message(Role.user, question), Message(Role.assistant, answer)]
            if self.config.system is not None:
                messages.insert(0, Message(Role.system, self.config.system))
            yield name, Conversation(tuple(messages))

    @cached_property
    def _pairs(self) -> dict[str, list[tuple[str, str, str]]]:
        """Name, question and answer of each split."""
        docs = PythonDocs(self.config)
        pairs: dict[str, list[tuple[str, str, str]]] = {"train": [], "val": [], "test": []}
        for document, entries in docs.entries.items():
            for kind, name, text in entries:
                answer = " ".join(text.split("\n\n")[0].split())
                questions = QUESTIONS.get(kind.removeprefix("Async"))
                if questions and not _is_private(name) and SHORTEST <= len(answer) <= LONGEST:
                    asked = questions[hashlib.blake2b(name.encode(), digest_size=1).digest()[0] % len(questions)]
                    pairs[split_of(document)].append((name, asked.format(name), answer))
        known = " ".join(" ".join(docs.documents("train")).split())
        for split in ("val", "test"):
            pairs[split] = [pair for pair in pairs[split] if pair[2] not in known]
        return pairs


def _is_private(name: str) -> bool:
    return re.search(r"(^|\.)_", name) is not None
