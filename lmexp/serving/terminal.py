"""A chat in a terminal: answers appear as they are written.

Ctrl-C breaks an answer off; Ctrl-D, or /quit, ends the chat.
"""

import contextlib
import json
from collections.abc import Callable
from pathlib import Path

from lmexp.errors import DataError
from lmexp.generation.text import printable
from lmexp.serving.dialogue import Dialogue

COMMANDS = """\
  /reset            begin anew
  /system TEXT      say what the assistant is, and begin anew; without TEXT it is shown
  /save FILE        write the conversation, one JSON line that data=chat reads
  /quit             end (Ctrl-D); Ctrl-C breaks an answer off"""
PROMPT = "> "


def chat(dialogue: Dialogue, *, read: Callable[[str], str] = input, say: Callable[..., None] = print) -> None:
    """Ask and answer until the end of the input."""
    say(f"{dialogue.loaded.run.path.name} at step {dialogue.loaded.step:,}; /help shows what else can be said")
    while True:
        try:
            said = read(PROMPT).strip()
        except (EOFError, KeyboardInterrupt):
            say("")
            return
        if said == "/quit":
            return
        if said.startswith("/"):
            say(_obey(dialogue, said))
        elif said:
            _answer(dialogue, said, say)


def _answer(dialogue: Dialogue, said: str, say: Callable[..., None]) -> None:
    try:
        with contextlib.suppress(KeyboardInterrupt):
            for piece in dialogue.answer(said):
                say(printable(piece), end="", flush=True)
        say("")
    except DataError as error:
        say(f"error: {error}")
    if dialogue.num_forgotten:
        say(f"({dialogue.num_forgotten} messages from the beginning no longer fit and are forgotten)")


def _obey(dialogue: Dialogue, said: str) -> str:
    command, _, rest = said.partition(" ")
    rest = rest.strip()
    if command == "/help":
        return COMMANDS
    if command == "/reset":
        dialogue.reset()
        return "begun anew"
    if command == "/system":
        if not rest:
            return dialogue.form.system or "there is no system message; /system TEXT sets one"
        dialogue.reset(rest)
        return "begun anew with this system message"
    if command == "/save":
        return _save(dialogue, rest)
    return f"there is no {command}\n{COMMANDS}"


def _save(dialogue: Dialogue, name: str) -> str:
    if not name or not dialogue.messages:
        return "nothing was said yet" if name else "give a name: /save chat.jsonl"
    path = Path(name).expanduser()
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(dialogue.as_dict(), ensure_ascii=False) + "\n")
    except OSError as error:
        return f"error: {path}: {error.strerror or error}"
    return f"written to {path}"
