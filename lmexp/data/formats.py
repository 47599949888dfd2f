"""From a row to a conversation: the formats that instruction data comes in, recognised by their keys.

| keys | format |
|---|---|
| messages | OpenAI's and Hugging Face's: role, content (a text, or parts with one), weight or loss_weight |
| conversations | ShareGPT's: from, value; tools beside them |
| prompt with replies | an OpenAssistant tree, of which the best-ranked path is taken |
| instruction, output (input, history) | Alpaca's; with instances in the place of input and output Self-Instruct's |
| prompt, completion | a pair of texts, or of lists of messages |
| prompt, chosen, rejected | of preferences: the same twice; without a prompt two whole conversations |
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from lmexp.config.chat import ChatConfig
from lmexp.config.data import Content
from lmexp.data.file_text import without_half_surrogates
from lmexp.data.messages import Conversation, Message, Role, conversation
from lmexp.data.rows import Row
from lmexp.errors import DataError

ROLES = {
    "system": Role.system,
    "developer": Role.system,
    **dict.fromkeys(("user", "human", "prompter"), Role.user),
    **dict.fromkeys(("assistant", "gpt", "model", "bot", "function_call"), Role.assistant),
    **dict.fromkeys(("tool", "function", "observation"), Role.tool),
}
"""What the formats call those who speak."""
KEYS_SHOWN = 10
KNOWN = "messages; conversations; instruction and output; prompt and completion"
KNOWN_PREFERENCES = "prompt, chosen and rejected; chosen and rejected"


def conversations_of(row: Row, place: str, config: ChatConfig) -> Iterator[Conversation]:
    """Yield the conversations of a row: one, of Self-Instruct's instances each, of preferences the better one first.

    Raises:
        DataError: it is of no known format, or what it holds is no conversation.
    """
    row = row | {usual: row[own] for usual, own in config.columns.items() if own in row}
    for missing in (own for own in config.columns.values() if own not in row):
        raise DataError(f"{place} has no key '{missing}' ({_keys(row)}); it is named by data.columns")
    formats, known = (FORMATS, KNOWN) if config.content is Content.answers else (PREFERENCES, KNOWN_PREFERENCES)
    reader = next((read for fits, read in formats if fits(row)), None)
    if reader is None:
        raise DataError(f"{place} is of no known format ({_keys(row)}); known are {known}; name yours in data.columns")
    for messages in reader(row, place):
        system = row.get("system") or row.get("system_prompt") or config.system
        if system is not None and messages and messages[0].role is not Role.system:
            messages.insert(0, Message(Role.system, _text(system, f"{place}: system")))
        messages = [
            Message(message.role, without_half_surrogates(message.content, config, place), message.is_learned)
            for message in messages
        ]
        tools = row.get("tools") or None
        yield conversation(messages, place, tools if tools is None or isinstance(tools, str) else _as_json(tools))


Messages = Iterator[list[Message]]


def _of_messages(row: Row, place: str) -> Messages:
    key = "messages" if "messages" in row else "conversations"
    yield messages_of(row[key], f"{place}: {key}")


def _of_tree(row: Row, place: str) -> Messages:
    """Yield the path of the replies with the best rank, up to its last answer."""
    node, messages = row["prompt"], []
    while node is not None:
        messages.append(Message(_role(node.get("role"), place), _text(node.get("text"), f"{place}: text")))
        replies = node.get("replies") or []
        if not isinstance(replies, list) or not all(isinstance(reply, dict) for reply in replies):
            raise DataError(f"{place}: replies must be a list of messages with role, text and replies")
        replies = [reply for reply in replies if not reply.get("deleted")]
        node = min(replies, key=_rank, default=None)  # of equals the first
    while messages and messages[-1].role is not Role.assistant:
        messages.pop()
    if messages:
        yield messages


def _rank(reply: Row) -> float:
    rank = reply.get("rank")
    return rank if isinstance(rank, int | float) else float("inf")


def _of_instruction(row: Row, place: str) -> Messages:
    instances = row.get("instances", [row])
    if not isinstance(instances, list) or not all(isinstance(instance, dict) for instance in instances):
        raise DataError(f"{place}: instances must be a list of objects with input and output")
    for instance in instances:
        messages = []
        for turn in row.get("history") or []:
            if not isinstance(turn, list) or len(turn) != 2:
                raise DataError(f"{place}: history must be a list of pairs: [[question, answer], ...]")
            asked, answered = (_text(said, f"{place}: history") for said in turn)
            messages += [Message(Role.user, asked), Message(Role.assistant, answered)]
        instruction, given = (_text(part, f"{place}: {key}") for part, key in _asked(row, instance))
        messages.append(Message(Role.user, f"{instruction}\n\n{given}" if given else instruction))
        messages.append(Message(Role.assistant, _text(instance.get("output"), f"{place}: output")))
        yield messages


def _asked(row: Row, instance: Row) -> Iterator[tuple[Any, str]]:
    yield row["instruction"], "instruction"
    yield instance.get("input") or "", "input"


def _of_pair(row: Row, place: str) -> Messages:
    prompt, completion = row["prompt"], row["completion"]
    asked = messages_of(prompt, place) if isinstance(prompt, list) else [Message(Role.user, _text(prompt, place))]
    if isinstance(completion, list):
        yield [*asked, *messages_of(completion, place)]
    else:
        yield [*asked, Message(Role.assistant, _text(completion, f"{place}: completion"))]


def _of_preference(row: Row, place: str) -> Messages:
    """Yield the chosen conversation and the rejected one, of which only the last answer is learned."""
    prompt = row.get("prompt")
    asked = []
    if isinstance(prompt, list):
        asked = messages_of(prompt, place)
    elif prompt is not None:
        asked = [Message(Role.user, _text(prompt, f"{place}: prompt"))]
    both = []
    for key in ("chosen", "rejected"):
        said = row[key]
        at = f"{place}: {key}"
        answer = messages_of(said, at) if isinstance(said, list) else [Message(Role.assistant, _text(said, at))]
        messages = answer if answer[: len(asked)] == asked else [*asked, *answer]
        if not messages or messages[-1].role is not Role.assistant:
            raise DataError(f"{place}: {key} does not end with an answer")
        both.append([*(replace(message, is_learned=False) for message in messages[:-1]), messages[-1]])
    if both[0] == both[1]:
        raise DataError(f"{place}: chosen and rejected are the same")
    if both[0][:-1] != both[1][:-1]:
        raise DataError(f"{place}: chosen and rejected answer different questions")
    yield from both


Reader = tuple[Callable[[Row], bool], Callable[[Row, str], Messages]]
PREFERENCES: list[Reader] = [(lambda row: "chosen" in row and "rejected" in row, _of_preference)]
FORMATS: list[Reader] = [
    (lambda row: "messages" in row or isinstance(row.get("conversations"), list), _of_messages),
    (lambda row: isinstance(row.get("prompt"), dict), _of_tree),
    (lambda row: "instruction" in row and ("output" in row or "instances" in row), _of_instruction),
    (lambda row: "prompt" in row and "completion" in row, _of_pair),
]


def messages_of(rows: Any, place: str) -> list[Message]:
    """Return messages that are written as objects with role and content, or from and value.

    Raises:
        DataError: they are not.
    """
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise DataError(f"{place} must be a list of messages: objects with role and content, or from and value")
    return [_message(row, f"{place}, message {number}") for number, row in enumerate(rows, start=1)]


def _message(row: Row, place: str) -> Message:
    speaker = row.get("role", row.get("from"))
    content = row.get("content", row.get("value"))
    if content is None:
        if not row.get("tool_calls"):
            raise DataError(f"{place}: its content is missing")
        content = _as_json(row["tool_calls"])
    weight = row.get("weight", row.get("loss_weight"))
    if weight not in (None, 0, 1):
        raise DataError(f"{place}: weight {weight!r}; an answer is learned (1) or not (0)")
    return Message(_role(speaker, place), _text(content, place), weight != 0)


def _role(name: Any, place: str) -> Role:
    role = ROLES.get(name) if isinstance(name, str) else None
    if role is None:
        raise DataError(f"{place}: unknown role {name!r}; known are {', '.join(ROLES)}")
    return role


def _text(value: Any, place: str) -> str:
    """Return a text; of a list of parts the texts, one after the other."""
    parts = value if isinstance(value, list) else []
    if parts and all(isinstance(part, dict) and part.get("type") == "text" for part in parts):
        return "".join(_text(part.get("text", part.get("value")), place) for part in parts)
    if not isinstance(value, str):
        what = "is missing" if value is None else f"is no text, but {_as_json(value)[:40]}"
        raise DataError(f"{place} {what}")
    return value


def _keys(row: Row) -> str:
    names = [str(key) for key in row]
    return f"it has {', '.join(names[:KEYS_SHOWN])}{', ...' if len(names) > KEYS_SHOWN else ''}" if names else "no keys"


def _as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
