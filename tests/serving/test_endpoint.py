"""The endpoint as OpenAI's own client uses it, alone and many at once, and what it refuses."""

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import uvicorn

from lmexp import compose, load_run, train
from lmexp.checkpoints import LoadedRun
from lmexp.generation.forms import form_of
from lmexp.generation.sampling import Sampling
from lmexp.generation.text import complete
from lmexp.runs.dashboard import HOST, listen
from lmexp.serving.endpoint import Limits, application

COLOURS = ("red", "blue", "green", "white", "black")
SECONDS = 60


@pytest.fixture(scope="module")
def answered(tmp_path_factory: pytest.TempPathFactory) -> LoadedRun:
    """A small run that answers a number and a colour with the colour."""
    folder = tmp_path_factory.mktemp("answered")
    rows = [{"prompt": f"{number} {c}?", "completion": f"{c}."} for number in range(12) for c in COLOURS]
    (folder / "chat.jsonl").write_text("\n".join(map(json.dumps, rows)))
    options = [
        *("data=chat", "task=sft", f"data.path={folder / 'chat.jsonl'}", "tokenizer=bytes", "model=transformer_tiny"),
        *("data.context_length=64", "data.batch_size=8", "trainer.max_steps=250", "optimizer=adamw", "logger=none"),
        *("optimizer.learning_rate=0.01", "trainer.progress_bar=false", f"output_dir={folder / 'outputs'}"),
        *("trainer.validate_every_steps=null", "callbacks.samples.prompts=[]", f"data.cache_dir={folder / 'cache'}"),
    ]
    return load_run(train(compose("train", options)).path)


@contextlib.contextmanager
def served(loaded: LoadedRun, **limits: Any) -> Iterator[str]:
    """Serve a run on a free port of this machine."""
    with listen(0) as listener:
        config = uvicorn.Config(
            application(loaded, Limits(**limits)), log_level="error", lifespan="off", timeout_graceful_shutdown=1
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        try:
            yield f"http://{HOST}:{listener.getsockname()[1]}/v1"
        finally:
            server.should_exit = True
            thread.join(SECONDS)


@pytest.fixture(scope="module")
def address(answered: LoadedRun) -> Iterator[str]:
    with served(answered, max_tokens=200) as url:
        yield url


@pytest.fixture
def client(address: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=address, api_key="none", max_retries=0, timeout=SECONDS) as client:
        yield client


def asking(text: str) -> Any:
    return [{"role": "user", "content": text}]


def test_the_model_is_listed(client: openai.OpenAI, answered: LoadedRun):
    name = answered.run.path.name
    assert [model.id for model in client.models.list()] == [name]
    assert client.models.retrieve(name).owned_by == "lmexp"


def test_a_question_is_answered(client: openai.OpenAI, answered: LoadedRun):
    name = answered.run.path.name
    found = client.chat.completions.create(model=name, messages=asking("3 green?"), temperature=0)
    assert found.choices[0].message.content == "green."
    assert found.choices[0].finish_reason == "stop"
    assert found.usage is not None
    assert found.usage.completion_tokens == len("green.")
    assert found.usage.total_tokens == found.usage.prompt_tokens + found.usage.completion_tokens


def test_an_answer_is_streamed(client: openai.OpenAI, answered: LoadedRun):
    chunks = list(
        client.chat.completions.create(
            model=answered.run.path.name,
            messages=asking("3 green?"),
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "green."
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == len("green.")


def test_sixteen_at_once_get_what_each_would_get_alone(client: openai.OpenAI, answered: LoadedRun):
    name, form = answered.run.path.name, form_of(answered.config, answered.tokenizer)
    asked = [(f"{number} {COLOURS[number % 5]}?", number) for number in range(16)]

    def ask(question: tuple[str, int]) -> str:
        text, seed = question
        is_streamed = seed % 2 == 0
        options: dict[str, Any] = {"model": name, "messages": asking(text), "seed": seed, "max_tokens": 20}
        if not is_streamed:
            return client.chat.completions.create(**options).choices[0].message.content or ""
        chunks = client.chat.completions.create(**options, stream=True)
        return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, asked, timeout=SECONDS))
    for (text, seed), answer in zip(asked, answers, strict=True):
        [alone] = complete(answered.model, form, [text], Sampling(temperature=1.0, max_tokens=20, seed=seed))
        assert answer == alone.text


def test_texts_go_on(client: openai.OpenAI, answered: LoadedRun):
    found = client.completions.create(
        model=answered.run.path.name, prompt=["ab", "cd"], n=2, max_tokens=5, seed=1, extra_body={"top_k": 3}
    )
    assert [choice.index for choice in found.choices] == [0, 1, 2, 3]
    assert {choice.finish_reason for choice in found.choices} <= {"length", "stop"}
    assert found.usage is not None
    assert found.usage.prompt_tokens == 8


def test_a_stop_text_ends_an_answer(client: openai.OpenAI, answered: LoadedRun):
    found = client.chat.completions.create(
        model=answered.run.path.name, messages=asking("3 green?"), temperature=0, stop=["n."]
    )
    assert found.choices[0].message.content == "gree"


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "tools": ({"tools": [{"type": "function", "function": {"name": "x"}}]}, "tools: is not done here"),
    "a penalty": ({"frequency_penalty": 0.5}, "frequency_penalty: is not done here"),
    "JSON": ({"response_format": {"type": "json_object"}}, "response_format: is not done here"),
    "too many tokens": ({"max_tokens": 201}, "max_tokens: must be at most 200"),
    "too hot": ({"temperature": 3}, "temperature: Input should be less than or equal to 2"),
    "a role": ({"messages": [{"role": "wizard", "content": "x"}]}, "messages, message 1: unknown role 'wizard'"),
    "no question": ({"messages": [{"role": "assistant", "content": "x"}]}, "the last one is an answer already"),
    "a long question": ({"messages": asking("red " * 50)}, "the conversation has 2"),
    "nothing said": ({"messages": []}, "messages: List should have at least 1 item"),
    "alike": ({"n": 2, "temperature": 0}, "n: at temperature 0 all texts are alike"),
    "an empty stop": ({"stop": ""}, "stop: is empty"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_done_is_refused_by_name(client: openai.OpenAI, answered: LoadedRun, name: str):
    options, problem = REFUSED[name]
    with pytest.raises(openai.BadRequestError) as error:
        client.chat.completions.create(**{"model": answered.run.path.name, "messages": asking("x"), **options})
    assert problem in str(error.value)


def test_another_model_is_not_found(client: openai.OpenAI):
    with pytest.raises(openai.NotFoundError, match="there is no gpt-4"):
        client.chat.completions.create(model="gpt-4", messages=asking("x"))


def test_what_is_no_request_is_refused(address: str):
    url = f"{address}/chat/completions"
    assert httpx.post(url, content=b"{", headers={"Content-Type": "application/json"}).status_code == 400
    assert httpx.post(url, content=b"x" * (2**20 + 1)).status_code == 413
    assert httpx.get(f"{address}/models", headers={"Host": "evil.example"}).status_code == 400
    assert httpx.get(f"{address}/nothing").status_code == 404


def test_too_many_at_once_are_asked_to_come_back(answered: LoadedRun):
    with served(answered, max_requests=1, max_tokens=20_000) as url:
        options = {"prompt": "a", "max_tokens": 20_000, "temperature": 0}
        with httpx.stream("POST", f"{url}/completions", json=options | {"stream": True}, timeout=SECONDS) as first:
            lines = first.iter_lines()
            next(lines)
            refused = httpx.post(f"{url}/completions", json={"prompt": "b"})
        assert refused.status_code == 429
        assert refused.headers["Retry-After"] == "1"
        for _ in range(100):  # the first has gone away, and its texts are given up
            answer = httpx.post(f"{url}/completions", json={"prompt": "b"}, timeout=SECONDS)
            if answer.status_code == 200:
                break
            time.sleep(0.1)
        assert answer.status_code == 200


def test_a_text_that_takes_too_long_is_cut(answered: LoadedRun):
    with served(answered, timeout_seconds=0.3, max_tokens=100_000) as url:
        start = time.monotonic()
        options = {"prompt": "a", "max_tokens": 100_000, "temperature": 0}
        found = httpx.post(f"{url}/completions", json=options, timeout=SECONDS).json()
        assert time.monotonic() - start < SECONDS / 2
    assert found["choices"][0]["finish_reason"] == "length"
    assert 0 < found["usage"]["completion_tokens"] < 100_000


def test_a_run_that_has_learned_no_answers_says_so(tmp_path: Path, text_file: Path):
    options = [
        *("data=text", f"data.path={text_file}", "tokenizer=bytes", "model=transformer_tiny", "debug=fast"),
        *(f"output_dir={tmp_path}", "data.context_length=32", "data.batch_size=2"),
    ]
    loaded = load_run(train(compose("train", options)).path)
    with served(loaded) as url:
        refused = httpx.post(f"{url}/chat/completions", json={"messages": asking("x")})
        assert refused.status_code == 400
        assert "has learned to go on with texts, not to answer" in refused.json()["error"]["message"]
        found = httpx.post(f"{url}/completions", json={"prompt": "the", "max_tokens": 3}, timeout=SECONDS)
        assert found.status_code == 200
