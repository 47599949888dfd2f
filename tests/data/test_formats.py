"""Rows in every format become messages; what is wrong in one is said with its place and what to do."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from lmexp.config.chat import ChatConfig
from lmexp.data.chat import Chat
from lmexp.data.formats import conversations_of
from lmexp.data.messages import Conversation
from lmexp.errors import DataError

HI, HELLO = ("user", "Hi"), ("assistant", "Hello!")


def read(row: Any, **config: Any) -> list[Conversation]:
    return list(conversations_of(row, "chat.jsonl: line 3", ChatConfig(**config)))


def shown(conversation: Conversation) -> list[tuple[str, str]]:
    return [(message.role.name, message.content) for message in conversation.messages]


FORMATS: dict[str, tuple[dict[str, Any], list[tuple[str, str]]]] = {
    "messages": (
        {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]},
        [HI, HELLO],
    ),
    "messages in parts": (
        {
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "H"}, {"type": "text", "value": "i"}]},
                {"role": "assistant", "content": "Hello!"},
            ]
        },
        [HI, HELLO],
    ),
    "a call of a tool": (
        {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "tool_calls": [{"name": "look"}]}]},
        [HI, ("assistant", '[{"name": "look"}]')],
    ),
    "ShareGPT": (
        {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello!"}], "system": "Be kind."},
        [("system", "Be kind."), HI, HELLO],
    ),
    "ShareGPT with tools": (
        {
            "conversations": [
                {"from": "human", "value": "Rain?"},
                {"from": "function_call", "value": "look()"},
                {"from": "observation", "value": "yes"},
                {"from": "gpt", "value": "It rains."},
            ]
        },
        [("user", "Rain?"), ("assistant", "look()"), ("tool", "yes"), ("assistant", "It rains.")],
    ),
    "Alpaca": ({"instruction": "Hi", "input": "", "output": "Hello!"}, [HI, HELLO]),
    "Alpaca with an input": (
        {"instruction": "Add", "input": "1 and 2", "output": "3"},
        [("user", "Add\n\n1 and 2"), ("assistant", "3")],
    ),
    "Alpaca with a history": (
        {"instruction": "Bye", "output": "See you.", "history": [["Hi", "Hello!"]]},
        [HI, HELLO, ("user", "Bye"), ("assistant", "See you.")],
    ),
    "a pair": ({"prompt": "Hi", "completion": "Hello!"}, [HI, HELLO]),
    "a pair of messages": (
        {"prompt": [{"role": "user", "content": "Hi"}], "completion": [{"role": "assistant", "content": "Hello!"}]},
        [HI, HELLO],
    ),
    "an OpenAssistant tree": (
        {
            "message_tree_id": "1",
            "prompt": {
                "role": "prompter",
                "text": "Hi",
                "replies": [
                    {"role": "assistant", "text": "What?", "rank": 1, "replies": []},
                    {
                        "role": "assistant",
                        "text": "Hello!",
                        "rank": 0,
                        "replies": [{"role": "prompter", "text": "Bye", "replies": []}],
                    },
                    {"role": "assistant", "text": "gone", "rank": 0, "deleted": True, "replies": []},
                ],
            },
        },
        [HI, HELLO],
    ),
}


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_is_recognised_by_its_keys(name: str):
    row, expected = FORMATS[name]
    assert [shown(one) for one in read(row)] == [expected]


def test_every_instance_of_self_instruct_is_a_conversation():
    row = {"instruction": "Add", "instances": [{"input": "1 2", "output": "3"}, {"input": "", "output": "what?"}]}
    assert [shown(one)[-1][1] for one in read(row)] == ["3", "what?"]


def test_keys_of_another_name_are_named_in_the_config():
    row = {"question": "Hi", "reply": "Hello!", "prompt": "not this"}
    [one] = read(row, columns={"prompt": "question", "completion": "reply"})
    assert shown(one) == [HI, HELLO]


def test_a_weight_of_0_is_an_answer_that_is_not_learned():
    row = {
        "messages": [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "No", "weight": 0},
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Hello!", "loss_weight": 1.0},
        ]
    }
    [one] = read(row)
    assert [message.is_answer for message in one.messages] == [False, False, False, True]


def test_a_system_message_of_the_config_is_for_conversations_without_one():
    without, with_own = (
        {"prompt": "Hi", "completion": "Hello!"},
        {"prompt": "Hi", "completion": "Hello!", "system": "S"},
    )
    assert shown(read(without, system="Be kind.")[0])[0] == ("system", "Be kind.")
    assert shown(read(with_own, system="Be kind.")[0])[0] == ("system", "S")


ANSWERS = [{"role": "assistant", "content": "a"}, {"role": "assistant", "content": "b"}]
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no known keys": ({"question": "Hi", "answer": "x"}, "is of no known format (it has question, answer)"),
    "no keys": ({}, "is of no known format (no keys)"),
    "an unknown role": ({"messages": [{"role": "wizard", "content": "x"}]}, "message 1: unknown role 'wizard'"),
    "no role": ({"messages": [{"content": "x"}]}, "message 1: unknown role None"),
    "two answers in a row": ({"messages": ANSWERS}, "messages 1 and 2 are both answers"),
    "an empty answer": ({"instruction": "Hi", "output": " \n"}, "message 2, an answer, is empty"),
    "no answer": ({"prompt": "Hi", "completion": None}, "completion is missing"),
    "an answer that is a number": ({"instruction": "Hi", "output": 7}, "output is no text, but 7"),
    "a picture": (
        {"messages": [{"role": "user", "content": [{"type": "image", "url": "x"}]}]},
        "message 1 is no text, but",
    ),
    "messages that are a text": ({"messages": "Hi"}, "messages must be a list of messages"),
    "no messages": ({"messages": []}, "a conversation without messages"),
    "half a weight": ({"messages": [{"role": "user", "content": "x", "weight": 0.5}]}, "weight 0.5"),
    "a late system message": (
        {"messages": [{"role": "user", "content": "x"}, {"role": "system", "content": "y"}]},
        "message 2 is a system message; it must be the first",
    ),
    "no content": ({"messages": [{"role": "user"}]}, "messages, message 1: its content is missing"),
    "half a history": ({"instruction": "a", "output": "b", "history": ["x"]}, "history must be a list of pairs"),
    "a history of numbers": ({"instruction": "a", "output": "b", "history": [[1, 2]]}, "history is no text, but 1"),
    "a tree of texts": (
        {"prompt": {"role": "user", "text": "a", "replies": "b"}},
        "replies must be a list of messages",
    ),
    "half a surrogate pair": ({"prompt": "\ud800", "completion": "x"}, "half of a surrogate pair"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_row_that_is_no_conversation_says_where_and_why(name: str):
    row, problem = BAD[name]
    with pytest.raises(DataError) as error:
        read(row)
    assert str(error.value).startswith("chat.jsonl: line 3")
    assert problem in str(error.value)
    assert "\n" not in str(error.value)


def test_a_column_that_is_not_there_is_said():
    with pytest.raises(DataError, match="has no key 'ask'"):
        read({"prompt": "Hi", "completion": "x"}, columns={"prompt": "ask"})


# -- files ---------------------------------------------------------------------------------------------------------


def rows(path: Path, content: str | bytes, **config: Any) -> list[tuple[str, Any]]:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return list(Chat(ChatConfig(path=str(path), **config)).rows("train"))


A, B = {"prompt": "Hi", "completion": 'Hello,\n"you"!'}, {"prompt": "Bye", "completion": "See you."}


def test_every_kind_of_file_gives_the_same_rows(tmp_path: Path):
    listed, in_lines = json.dumps([A, B], indent=2), f"{json.dumps(A)}\n\n{json.dumps(B)}"
    in_csv = '\ufeffprompt,completion\r\nHi,"Hello,\n""you""!"\r\nBye,See you.\r\n'
    files = {
        "list.json": listed,
        "wrapped.json": json.dumps({"version": 1, "data": [A, B]}),
        "lines.json": in_lines,
        "lines.jsonl": in_lines,
        "lines.jsonl.gz": gzip.compress(in_lines.encode()),
        "table.csv": in_csv,
    }
    for name, content in files.items():
        assert [row for _, row in rows(tmp_path / name, content)] == [A, B], name


def test_a_json_file_may_hold_one_conversation(tmp_path: Path):
    one = {"messages": [{"role": "user", "content": "Hi"}]}
    assert rows(tmp_path / "one.json", json.dumps(one)) == [(f"{tmp_path / 'one.json'}: item 1", one)]


def test_a_tsv_file_has_pairs_with_or_without_a_header(tmp_path: Path):
    assert [row for _, row in rows(tmp_path / "a.tsv", "Hi there\tHello\nBye\tSee you.\n")] == [
        {"prompt": "Hi there", "completion": "Hello"},
        {"prompt": "Bye", "completion": "See you."},
    ]
    assert [row for _, row in rows(tmp_path / "b.tsv", "instruction\toutput\nBye\tSee you.\n")] == [
        {"instruction": "Bye", "output": "See you."}
    ]
    words = rows(tmp_path / "c.tsv", "one\teins\ntwo\tzwei\n")  # no header, though they look like names
    assert [row["completion"] for _, row in words] == ["eins", "zwei"]


def test_a_parquet_file_has_rows(tmp_path: Path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist([A, B]), tmp_path / "a.parquet")
    assert [row for _, row in Chat(ChatConfig(path=str(tmp_path / "a.parquet"))).rows("train")] == [A, B]
    (tmp_path / "b.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(DataError, match=r"b\.parquet: not a Parquet file"):
        list(Chat(ChatConfig(path=str(tmp_path / "b.parquet"))).rows("train"))


BROKEN = {
    "a.jsonl": (f'{json.dumps(A)}\n{{"prompt": "Hi"', r"a\.jsonl: line 2 is not JSON \(Expecting"),
    "b.json": ('[{"prompt": "Hi"},\n {"prompt": }]', r"b\.json: line 2 is not JSON \(Expecting value at column 13"),
    "c.json": ('{"a": 1}', r"c\.json: must hold a list of objects"),
    "d.json": ("[1, 2]", r"d\.json: item 1 is no object"),
    "e.jsonl": ('"Hi"', r"e\.jsonl: line 1 is no object"),
    "f.csv": ("prompt,completion\nHi\n", r"f\.csv: line 2 has 1 cells, and the header 2"),
    "g.csv": ('prompt,completion\n"Hi,x\n', r"g\.csv: line 2 is not CSV"),
    "h.tsv": ("Hi\tHello\nBye\n", r"h\.tsv: line 2 has 1 cells between tabs, not 2"),
    "i.txt": ("Hi", r"i\.txt: not one of \.json, \.jsonl, \.csv, \.tsv, \.parquet"),
    "j.jsonl": ("[" * 100_000, r"j\.jsonl: line 1 is not JSON"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_says_which_line(tmp_path: Path, name: str):
    content, problem = BROKEN[name]
    with pytest.raises(DataError, match=problem):
        rows(tmp_path / name, content)


def test_the_files_of_the_shared_data_are_all_read(shared_data: Path):
    counts = {
        "sft/alpaca_en_demo.json": 999,
        "sft/alpaca_zh_demo.json": 1000,
        "sft/seed_tasks.jsonl": 175,
        "sft/user_oriented_instructions.jsonl": 252,
        "chat/oasst_en_100_tree.jsonl": 100,
        "chat/dummy_conversation.json": 500,
        "chat/glaive_toolcall_en_demo.json": 300,
        "chat/v1_sft_demo.jsonl": 500,
    }
    for name, count in counts.items():
        source = Chat(ChatConfig(path=str(shared_data / name)))
        found = {split: [c for _, c in source.conversations(split)] for split in ("train", "val", "test")}
        assert sum(map(len, found.values())) == count, name
        assert not set(map(repr, found["train"])) & set(map(repr, found["val"]))
        assert all(any(m.is_answer for m in one.messages) for one in found["train"])


def test_a_data_set_of_hugging_face_is_read_with_its_own_splits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("datasets")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "train.jsonl").write_text("\n".join(json.dumps(A | {"prompt": f"{n}"}) for n in range(30)))
    (folder / "validation.jsonl").write_text(json.dumps(B))
    source = Chat(ChatConfig(dataset=str(folder), test_fraction=0.1))
    found = {split: [shown(c) for _, c in source.conversations(split)] for split in ("train", "val", "test")}
    assert found["val"] == [[("user", "Bye"), ("assistant", "See you.")]]
    assert {split: len(rows) for split, rows in found.items()} == {"train": 27, "val": 1, "test": 3}
    before = source.fingerprint
    assert Chat(ChatConfig(dataset=str(folder))).fingerprint == before
    (folder / "validation.jsonl").write_text(json.dumps(A))
    assert Chat(ChatConfig(dataset=str(folder))).fingerprint != before
    (folder / "train.jsonl").unlink()
    with pytest.raises(DataError, match=r"has no split for training; it has validation|cannot be read"):
        list(Chat(ChatConfig(dataset=str(folder))).conversations("train"))


def test_columns_are_named_by_usual_keys():
    (problem,) = [text for key, text in ChatConfig(path="x", columns={"bogus": "y"}).check() if key == "columns.bogus"]
    assert problem.startswith("is none of the usual keys, which are: messages, conversations, prompt")


def test_a_data_set_or_files_are_given():
    assert dict(ChatConfig(dataset="a", path="b").check())["dataset"] == "there is data.path too; give one of the two"
    assert "path" not in dict(ChatConfig(dataset="a/b").check())
    assert dict(ChatConfig().check())["path"].startswith("must be given")
