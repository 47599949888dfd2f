"""How conversations are written, and what is learned of them: as written by hand, and as transformers has it."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lmexp.config.chat import Template
from lmexp.config.tokenizer import BytesConfig, HFTokenizerConfig
from lmexp.data.examples import encode
from lmexp.data.messages import Message, Role
from lmexp.data.templates import OWN, template_of
from lmexp.errors import DataError
from lmexp.tokenization import Tokenizer, learn, with_special_tokens
from lmexp.tokenization.export import write_hf_tokenizer
from tests.data.conversations import CONVERSATIONS, EXPECTED, PUBLISHED, SPECIAL, ZEPHYR_JINJA

PARTS = re.compile("§?(?:" + "|".join(map(re.escape, SPECIAL)) + ")|⟦|⟧")


def hugging_face(folder: Path, chat_template: str | None = None) -> Tokenizer:
    """Return a tokenizer of Hugging Face that spells texts in bytes and has all special tokens."""
    folder.mkdir(exist_ok=True)
    names = [name for name in SPECIAL if name != "</s>"]
    own = with_special_tokens(learn(BytesConfig(), ()), names)
    write_hf_tokenizer(own, folder, max_length=None, chat_template=chat_template)
    return learn(HFTokenizerConfig(name_or_path=str(folder)), ())


def by_hand(text: str, tokenizer: Tokenizer) -> tuple[list[int], list[bool]]:
    """Return ids, and which are learned, of a text with brackets around what is."""
    ids: list[int] = []
    is_learned: list[bool] = []
    position, inside = 0, False
    for found in [*PARTS.finditer(text), None]:
        end = len(text) if found is None else found.start()
        plain = list(text[position:end].encode())
        mark = found[0] if found else ""
        if mark.startswith("§"):
            plain += mark[1:].encode()
        elif mark and mark not in "⟦⟧":
            plain.append(tokenizer.end_of_document_id if mark == "</s>" else tokenizer.special_ids[mark])
        ids += plain
        is_learned += [inside] * len(plain)
        inside = (inside or mark == "⟦") and mark != "⟧"
        position = found.end() if found else 0
    return ids, is_learned


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tokenizer]:
    """One of ours, and one of Hugging Face with a chat template."""
    return {
        "ours": with_special_tokens(learn(BytesConfig(), ()), SPECIAL[:-1]),
        "theirs": hugging_face(tmp_path_factory.mktemp("hf") / "tokenizer", ZEPHYR_JINJA),
    }


@pytest.mark.parametrize("name", CONVERSATIONS)
@pytest.mark.parametrize(
    ("whose", "template"), [("theirs", each) for each in EXPECTED] + [("ours", each.name) for each in OWN]
)
def test_what_is_read_and_what_is_learned_is_as_written_by_hand(
    tokenizers: dict[str, Tokenizer], whose: str, template: str, name: str
):
    tokenizer = tokenizers[whose]
    writes = template_of(Template[template], tokenizer)
    (example,) = encode([writes.render(CONVERSATIONS[name])], tokenizer)
    assert (example.ids.tolist(), example.is_learned.tolist()) == by_hand(EXPECTED[template][name], tokenizer)


@pytest.mark.parametrize("template", EXPECTED)
def test_a_question_is_the_beginning_of_the_question_with_its_answer(tmp_path: Path, template: str):
    tokenizer = hugging_face(tmp_path, ZEPHYR_JINJA)
    writes = template_of(Template[template], tokenizer)
    for messages in CONVERSATIONS.values():
        for number, message in enumerate(messages):
            if message.role is Role.assistant:
                (asked,) = encode([writes.render(messages[:number], asks=True)], tokenizer)
                (whole,) = encode([writes.render(messages[: number + 1])], tokenizer)
                assert whole.ids[: len(asked.ids)].tolist() == asked.ids.tolist()
                assert whole.is_learned[len(asked.ids)] == message.is_answer


def their_masks(
    folder: Path, jinja: str, conversations: list[list[dict[str, str]]]
) -> list[tuple[list[int], list[int]]]:
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(folder)
    written: list[Any] = [
        theirs.apply_chat_template(
            messages, chat_template=jinja, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
        )
        for messages in conversations
    ]
    return [(one["input_ids"], one["assistant_masks"]) for one in written]


JINJA = [*PUBLISHED.items(), *((name.name, turns.as_jinja()) for name, turns in OWN.items())]
"""Two that are published, and all of ours as they are exported."""


@pytest.mark.parametrize(("template", "source"), JINJA, ids=[f"{name}-{n}" for n, (name, _) in enumerate(JINJA)])
def test_masks_are_those_of_transformers(tmp_path: Path, template: str, source: str):
    tokenizer = hugging_face(tmp_path)
    injected = "names of special tokens are said"  # which transformers takes for special tokens
    conversations = {k: c for k, c in CONVERSATIONS.items() if k != injected and all(m.is_learned for m in c)}
    rows = [[{"role": m.role.name, "content": m.content} for m in c] for c in conversations.values()]
    theirs = their_masks(tmp_path, source, rows)
    ours = encode([OWN[Template[template]].render(c) for c in conversations.values()], tokenizer)
    for example, (ids, mask) in zip(ours, theirs, strict=True):
        assert example.ids.tolist() == ids
        assert example.is_learned.astype(int).tolist() == mask


@pytest.mark.parametrize("template", PUBLISHED)
def test_a_template_that_marks_answers_is_believed(tmp_path: Path, template: str):
    tokenizer = hugging_face(tmp_path, PUBLISHED[template])
    own = template_of(Template.auto, tokenizer)
    for messages in CONVERSATIONS.values():
        ours, theirs = encode([OWN[Template[template]].render(messages), own.render(messages)], tokenizer)
        assert np.array_equal(ours.ids, theirs.ids)
        assert np.array_equal(ours.is_learned, theirs.is_learned)


HOSTILE = {
    "{{ ''.__class__.__mro__ }}": "the chat template",
    "{{ messages.__init__.__globals__ }}": "the chat template",
    "{% for": "the chat template",
    "{{ raise_exception('no tools here') }}": "the chat template refuses: no tools here",
    "{{ messages[7].content }}": "the chat template",
    "{{ 1 / 0 }}": "the chat template fails (ZeroDivisionError",
    "{% for m in messages %}{{ m.content }}{{ messages | length }}{% endfor %}": "writes what was said before",
    "{{ messages[-1].content }}": "writes what was said before",
    "{% generation %}x{% endgeneration %}{% generation %}y{% endgeneration %}": "marks 2 answers where there are 1",
}


@pytest.mark.parametrize("jinja", HOSTILE)
def test_a_template_that_fails_or_reaches_for_python_is_refused_in_one_line(tmp_path: Path, jinja: str):
    tokenizer = hugging_face(tmp_path, jinja)
    with pytest.raises(DataError) as error:
        template_of(Template.tokenizer, tokenizer).render(CONVERSATIONS["one question"])
    assert HOSTILE[jinja] in str(error.value)
    assert "\n" not in str(error.value)


def test_a_tokenizer_without_a_template_says_which_others_there_are():
    with pytest.raises(DataError, match="take one of chatml, llama, alpaca, plain"):
        template_of(Template.tokenizer, learn(BytesConfig(), ()))


def test_tools_are_told_in_the_system_message():
    tools = json.dumps([{"name": "look"}])
    pieces = OWN[Template.plain].render([Message(Role.user, "Hi")], tools)
    assert "".join(piece.text for piece in pieces if not piece.is_special) == f"Tools:\n{tools}\nUser: Hi\n"
