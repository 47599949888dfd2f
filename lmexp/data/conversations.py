"""A source of conversations: the templates of its config make ids of them, with what is learned."""

from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path

from lmexp.config.chat import ConversationsConfig
from lmexp.data.examples import encode
from lmexp.data.messages import Conversation, Piece
from lmexp.data.source import Source
from lmexp.data.templates import template_of
from lmexp.errors import DataError
from lmexp.tokenization import Tokenizer, token_files, with_special_tokens
from lmexp.tokenization.token_files import SplitCounts


class Conversations(Source):
    """Conversations in three splits."""

    config: ConversationsConfig

    @abstractmethod
    def conversations(self, split: str) -> Iterator[tuple[str, Conversation]]:
        """Yield the conversations of a split and where each stands, always in the same order.

        Raises:
            DataError: something in a file is no conversation.
        """

    def documents(self, split: str) -> Iterator[str]:
        """Yield what is said in each conversation, to learn a tokenizer from."""
        for _, conversation in self.conversations(split):
            yield "\n".join(message.content for message in conversation.messages)

    def fitting(self, tokenizer: Tokenizer) -> Tokenizer:
        return with_special_tokens(tokenizer, template_of(self.config.template, tokenizer).special_tokens)

    def write(self, folder: Path, split: str, tokenizer: Tokenizer) -> SplitCounts:
        examples = encode(self._written(split, tokenizer), tokenizer)
        return token_files.write_examples(folder, split, examples, tokenizer.vocab_size)

    def _written(self, split: str, tokenizer: Tokenizer) -> Iterator[list[Piece]]:
        template = template_of(self.config.template, tokenizer)
        for place, conversation in self.conversations(split):
            try:
                yield template.render(conversation.messages, conversation.tools)
            except DataError as error:
                raise DataError(f"{place}: {error}") from None
