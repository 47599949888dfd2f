"""A run that has learned texts learns to answer: its new tokens, its record, its prompts, its chat, its export."""

import json
import re
from pathlib import Path

import pytest
import torch

from lmexp import checkpoints, compose, load_run, train
from lmexp.config import TrainConfig
from lmexp.data.examples import encode
from lmexp.data.messages import Message, Role
from lmexp.data.templates import OWN
from lmexp.errors import ConfigError, DataError, RunError, Stopped
from lmexp.generation.forms import Answer, form_of
from lmexp.generation.sampling import Sampling
from lmexp.generation.text import complete
from lmexp.interchange.exporting import export
from lmexp.runs import RunFolder, list_runs
from lmexp.serving.dialogue import Dialogue
from lmexp.serving.terminal import chat
from lmexp.training.first_batch import show
from tests.data.conversations import CONVERSATIONS
from tests.training.setups import KINDS, TINY, outcome, stop_at, tiny

SHAPE = [line for line in TINY if not line.startswith(("data=", "tokenizer=", "model.")) and "prompts" not in line]
COLOURS = ("red", "blue", "green", "white", "black")


@pytest.fixture
def source(folder: Path, text_file: Path) -> RunFolder:
    return train(tiny(text_file, *KINDS["transformer"], "data.context_length=64"))


@pytest.fixture
def questions(folder: Path) -> Path:
    """Questions about colours, each answered by the colour."""
    path = folder / "chat.jsonl"
    rows = [{"prompt": f"{number} {c}?", "completion": f"{c}."} for number in range(12) for c in COLOURS]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def answering(source: RunFolder, path: Path, *more: str) -> TrainConfig:
    chosen = ["data=chat", "task=sft", f"data.path={path}", f"init_from={source.path}", "data.context_length=64"]
    return compose("train", [*SHAPE, *chosen, "callbacks.samples.prompts=['1 red?']", "optimizer=adamw", *more])


def test_new_tokens_begin_as_the_mean_of_the_others(source: RunFolder, questions: Path):
    run = train(answering(source, questions, "optimizer.learning_rate=1e-12", "trainer.max_steps=1"))
    before = checkpoints.read_weights(checkpoints.listing(source.checkpoints)[-1])["model.embedding.weight"]
    after = checkpoints.read_weights(checkpoints.listing(run.checkpoints)[-1])["model.embedding.weight"]
    assert len(after) == len(before) + 2
    torch.testing.assert_close(after[: len(before)], before, rtol=0, atol=1e-9)
    torch.testing.assert_close(after[-1], before.mean(dim=0), rtol=0, atol=1e-7)
    assert load_run(run.path).tokenizer.special_ids["<|im_end|>"] == len(before) + 1


def test_a_template_without_tokens_of_its_own_leaves_the_vocabulary_as_it_is(source: RunFolder, questions: Path):
    run = train(answering(source, questions, "data.template=plain", "trainer.max_steps=1"))
    assert run.record["tokenizer_hash"] == source.record["tokenizer_hash"]
    assert run.record["parameters"] == source.record["parameters"]


def test_adapters_refuse_tokens_that_they_would_not_train(source: RunFolder, questions: Path):
    with pytest.raises(ConfigError, match=r"data\.template: adds tokens .* take data\.template=plain or alpaca"):
        train(answering(source, questions, "model.lora.rank=2"))
    assert len(list_runs("outputs")) == 1  # the source: nothing was begun
    run = train(answering(source, questions, "model.lora.rank=2", "data.template=plain", "trainer.max_steps=1"))
    assert run.record["status"] == "done"


def test_answers_are_measured_and_written_before_the_first_step_and_after_the_last(source: RunFolder, questions: Path):
    run = train(answering(source, questions, "callbacks.samples.every_steps=6"))
    measured = [row["step"] for row in run.metrics if "val/loss_nats" in row]
    assert measured == [0, 3, 6, 9, 12]
    assert [row["step"] for row in run.samples] == [0, 6, 12]
    assert run.record["metrics"]["val/perplexity"] > 1
    assert [folder.name for folder in checkpoints.listing(run.checkpoints)][-1] == "step-000012"


def test_a_run_that_was_stopped_goes_on_bit_by_bit(source: RunFolder, questions: Path, monkeypatch: pytest.MonkeyPatch):
    whole = train(answering(source, questions))
    expected = outcome(whole)
    whole.path.rename("whole")
    with monkeypatch.context() as patch:
        stop_at(patch, 13)
        with pytest.raises(Stopped):
            train(answering(source, questions))
    assert outcome(train(answering(source, questions))) == expected


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_ranks_learn_what_one_does(source: RunFolder, questions: Path):
    more = ["model.dropout=0", "data.batch_size=4", "data.evaluation_batch_size=64"]
    one = train(answering(source, questions, *more))
    one.path.rename("one")
    two = train(answering(source, questions, *more, "trainer=ddp_cpu", "trainer.devices=2"))
    for expected, found in zip(RunFolder(Path("one")).metrics, two.metrics, strict=True):
        for key in ("val/loss_nats", "test/loss_nats", "train/loss_nats"):
            assert found.get(key) == pytest.approx(expected.get(key), abs=2e-5), (key, expected["step"])


@pytest.fixture
def answered(source: RunFolder, questions: Path) -> RunFolder:
    """A run that has learned its answers by heart."""
    more = [
        "task.num_answers=6",
        "task.answer_tokens=12",
        "trainer.max_steps=300",
        "optimizer.learning_rate=0.01",
        "model.dropout=0",
        "trainer.accumulate=1",
    ]
    quiet = ["trainer.validate_every_steps=null", "trainer.checkpoint_every_steps=null"]
    return train(answering(source, questions, *more, *quiet))


GREEDY = Sampling(temperature=0, max_tokens=20)


def test_a_run_learns_to_answer_and_to_stop(answered: RunFolder, folder: Path):
    loaded = load_run(answered.path)
    form = form_of(loaded.config, loaded.tokenizer)
    assert isinstance(form, Answer)
    asked = [f"{number} {colour}?" for number in (3, 7) for colour in COLOURS]
    answers = list(complete(loaded.model, form, asked, GREEDY))
    assert [one.text for one in answers] == [f"{colour}." for _ in range(2) for colour in COLOURS]
    assert {one.finish_reason for one in answers} == {"end"}
    assert answered.record["metrics"]["val/loss_nats"] < 0.1
    before, after = (next(r for r in answered.metrics if "val/chrf" in r and r["step"] == step) for step in (0, 300))
    assert (before["val/exact_match"], after["val/exact_match"]) == (0, 1)
    assert (after["val/rougeL"], after["val/chrf"]) == (1, 100)

    # -- a chat
    dialogue = Dialogue(loaded, GREEDY)
    said = iter(["1 red?", "/system Be kind.", "/system", "2 blue?", "/save talk.jsonl", "/nothing", "/quit"])
    written: list[str] = []
    chat(
        dialogue, read=lambda prompt: next(said), say=lambda *text, end="\n", flush=False: written.append(text[0] + end)
    )
    text = "".join(written)
    assert "red.\n" in text
    assert "there is no /nothing" in text
    saved = [json.loads(line) for line in Path("talk.jsonl").read_text().splitlines()]
    assert saved == [
        {
            "messages": [
                {"role": "system", "content": "Be kind."},
                {"role": "user", "content": "2 blue?"},
                {"role": "assistant", "content": dialogue.messages[-1].content},
            ]
        }
    ]

    # -- what does not fit is forgotten from the beginning
    dialogue.reset()
    for number in range(4):
        list(dialogue.answer(f"{number} red?"))
    assert dialogue.num_forgotten > 0
    with pytest.raises(DataError, match="the model reads at most 64: say less"):
        list(dialogue.answer("red " * 40))
    assert dialogue.messages[-1].role is Role.assistant

    # -- transformers writes the same conversations with the exported folder, and finds the same answers in them
    from transformers import AutoTokenizer

    export(answered.path, "exported")
    theirs = AutoTokenizer.from_pretrained("exported")
    for messages in CONVERSATIONS.values():
        if all(m.is_learned and "<|" not in m.content for m in messages):
            rows = [{"role": m.role.name, "content": m.content} for m in messages]
            found = theirs.apply_chat_template(rows, tokenize=True, return_dict=True, return_assistant_tokens_mask=True)
            (ours,) = encode([form.template.render(messages)], loaded.tokenizer)
            assert found["input_ids"] == ours.ids.tolist()
            assert found["assistant_masks"] == ours.is_learned.astype(int).tolist()
    ends = json.loads(Path("exported/generation_config.json").read_text())["eos_token_id"]
    assert set(ends) == set(form.ends)


@pytest.mark.parametrize("template", [name.name for name in OWN])
def test_every_template_ends_answers_with_a_token_that_ends_a_text(template: str, questions: Path):
    config = compose("train", ["data=chat", "task=sft", "tokenizer=bytes", f"data.path={questions}"])
    config.data.template = next(name for name in OWN if name.name == template)  # type: ignore[attr-defined]
    from lmexp.data.corpus import prepare

    tokenizer = prepare(config.data, config.tokenizer).tokenizer
    form = form_of(config, tokenizer)
    assert isinstance(form, Answer)
    (example,) = encode([form.template.render([Message(Role.user, "a"), Message(Role.assistant, "b")])], tokenizer)
    assert example.ids[example.is_learned][-1] in form.ends
    assert form.ends >= {tokenizer.end_of_document_id}


def test_a_run_that_goes_on_with_texts_has_no_chat(source: RunFolder):
    with pytest.raises(RunError, match="has learned to go on with texts, not to answer"):
        Dialogue(load_run(source.path), GREEDY)


def test_the_first_batch_shows_what_is_read_and_what_is_learned(questions: Path, text_file: Path):
    chosen = ["data=chat", "task=sft", "tokenizer=bytes", f"data.path={questions}", "data.context_length=64"]
    text = show(compose("train", chosen), width=100)
    assert "<|im_start|>user" in text
    assert "red.<|im_end|>\u27e7" in text
    assert "positions empty" in text
    masked = ["data=text", "task=masked", "model=encoder", "tokenizer=bytes", f"data.path={text_file}"]
    text = show(compose("train", [*masked, "data.context_length=64"]), width=100)
    assert re.search(r"\(1[3-7]%\) are learned", text)
    assert "\u27e6<mask>\u27e7" in text
    plain = show(compose("train", ["data=text", "tokenizer=bytes", f"data.path={text_file}", "data.batch_size=2"]))
    assert "512 of 512 positions hold tokens, 512 (100%) are learned" in " ".join(plain.split())


def test_what_is_learned_of_labels_and_pairs_is_shown(folder: Path, text_file: Path) -> None:
    labelled = show(tiny(text_file, *KINDS["lstm that tells labels"]), rows=2, width=100)
    assert re.search(r"row 1  ⟦(long|short)⟧\n", labelled)
    assert "4 labels are learned" in labelled
    pairs = show(tiny(text_file, *KINDS["encoder_decoder"]), rows=2, width=100)
    (source, target) = (folder / "pairs.tsv").read_text().splitlines()[0].split("\t")
    assert re.search(r"row 1\n[^⟦]+<end>⟦[^⟦]+<end>⟧\n", pairs)
    assert len(source) == 12
    assert len(target) <= 10
