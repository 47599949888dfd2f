"""Questions about Python's standard library, answered from its docstrings: conversations on every machine, without a
download.

An answer says what kind of thing it is and where it belongs, and then the first paragraph of the docstring. The split
is that of `python_docs`, by module; what is also written in the training text is not held out.
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
    "module": ("What is the module {} for?", "What does the module {} provide?", "Describe the module {}."),
    "class": ("What is {}?", "What is the class {} for?", "Describe the class {}."),
    "function": ("What does {} do?", "Explain {}.", "What is {} for?"),
    "method": ("What does {} do?", "Explain {}.", "What is {} for?"),
}
SHORTEST, LONGEST = 20, 400
"""Characters of the paragraph."""


class PythonDocsQA(Conversations):
    """One question about each module, class, function and method."""

    config: PythonDocsQAConfig

    @cached_property
    def fingerprint(self) -> str:
        return hashlib.blake2b(json.dumps(self._pairs).encode(), digest_size=8).hexdigest()

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
        known = " ".join(" ".join(docs.documents("train")).split())
        for document, entries in docs.entries.items():
            split, module = split_of(document), document.removeprefix("module ")
            for kind, name, text in entries:
                paragraph = " ".join(text.split("\n\n")[0].split())
                if kind not in QUESTIONS or _is_private(name) or not SHORTEST <= len(paragraph) <= LONGEST:
                    continue
                if split == "train" or paragraph not in known:
                    answer = f"{_place(kind, name, module)} {paragraph}"
                    pairs[split].append((name, _question(kind, name), answer))
        return pairs


def _question(kind: str, name: str) -> str:
    """Return one of several ways to ask, always the same one."""
    ways = QUESTIONS[kind]
    return ways[hashlib.blake2b(name.encode(), digest_size=1).digest()[0] % len(ways)].format(name)


def _place(kind: str, name: str, module: str) -> str:
    """Return what something is and where it belongs.

    Example:
        >>> _place("method", "json.decoder.JSONDecoder.decode", "json.decoder")
        'decode is a method of the class JSONDecoder in the module json.decoder.'
    """
    if kind == "module":
        return f"{name} is a module of the standard library."
    *parents, own = name.removeprefix(f"{module}.").split(".")
    within = f" of the class {'.'.join(parents)}" if parents else ""
    return f"{own} is a {kind}{within} in the module {module}."


def _is_private(name: str) -> bool:
    return re.search(r"(^|\.)_", name) is not None
