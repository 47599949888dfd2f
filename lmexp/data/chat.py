"""Conversations of a user, from files in the usual formats or from a data set of Hugging Face."""

from collections.abc import Iterator

from lmexp.config.chat import USUAL_KEYS, ChatConfig
from lmexp.data.conversations import Conversations
from lmexp.data.formats import conversations_of
from lmexp.data.messages import Conversation
from lmexp.data.row_files import RowFiles

Placed = tuple[str, Conversation]
"""Where a conversation stands, and what it is."""


class Chat(Conversations, RowFiles):
    """Conversations from files, or pairs of them of which the first is better."""

    config: ChatConfig
    examples_are = "conversations"
    pair = ("prompt", "completion")
    known = USUAL_KEYS

    def conversations(self, split: str) -> Iterator[Placed]:
        for unit in self.examples(split):
            yield from unit

    def read(self, split: str) -> Iterator[list[Placed]]:
        """Yield what stays together: one conversation, or a pair."""
        together = self.config.examples_per_unit
        for place, row in self.rows(split):
            found = [(place, conversation) for conversation in conversations_of(row, place, self.config)]
            yield from (found[i : i + together] for i in range(0, len(found), together))

    def content_of(self, example: list[Placed]) -> str:
        """Return the messages; of a pair the question, so that its answers are on one side."""
        _, first = example[0]
        return repr(first if len(example) == 1 else first.messages[:-1])
