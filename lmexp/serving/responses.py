"""Texts as OpenAI's interface returns them: whole, or as server-sent events while they are written."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from lmexp.errors import MissingPackageError
from lmexp.generation.forms import Form
from lmexp.generation.sampling import Sampling
from lmexp.serving.engine import Event, Job

try:
    from starlette.requests import Request
    from starlette.responses import JSONResponse, Response
except ModuleNotFoundError:
    raise MissingPackageError("fastapi", "serve") from None

LOOKS_AFTER_SECONDS = 1.0
"""So often it is looked whether somebody still waits for an answer."""
REASONS = {"end": "stop", "stop": "stop", "length": "length", "time": "length", "cancelled": "stop"}


@dataclass
class Choice:
    """One text of a response."""

    form: Form
    ids: list[int]
    sampling: Sampling
    events: "asyncio.Queue[Event]" = field(default_factory=asyncio.Queue)
    job: Job | None = None


class Chat:
    """How a chat completion is written."""

    prefix, name, chunk_name = "chatcmpl", "chat.completion", "chat.completion.chunk"

    def whole(self, text: str) -> dict[str, Any]:
        """Return a text as it stands in a choice."""
        return {"message": {"role": "assistant", "content": text}}

    def piece(self, text: str, *, is_first: bool) -> dict[str, Any]:
        """Return a piece as it stands in a choice of a chunk."""
        return {"delta": ({"role": "assistant"} if is_first else {}) | ({"content": text} if text or is_first else {})}


class Completion:
    """How a text completion is written."""

    prefix, name, chunk_name = "cmpl", "text_completion", "text_completion"

    def whole(self, text: str) -> dict[str, Any]:
        """Return a text as it stands in a choice."""
        return {"text": text}

    def piece(self, text: str, *, is_first: bool) -> dict[str, Any]:
        """Return a piece as it stands in a choice of a chunk."""
        return {"text": text}


async def whole(
    choices: Sequence[Choice], request: Request, response: dict[str, Any], kind: Chat | Completion
) -> Response:
    """Return all texts when they are written; when nobody waits any more they are given up."""
    written, num_tokens = [], 0
    try:
        for number, choice in enumerate(choices):
            text, event = "", Event()
            while event.finish_reason is None:
                try:
                    event = await asyncio.wait_for(choice.events.get(), LOOKS_AFTER_SECONDS)
                except TimeoutError:
                    if await request.is_disconnected():
                        return Response(status_code=499)
                    continue
                text += event.piece
            if event.error is not None:
                return JSONResponse(error_body(event.error, "server_error"), status_code=500)
            num_tokens += event.num_tokens
            written.append(
                {"index": number, "logprobs": None, "finish_reason": REASONS[event.finish_reason], **kind.whole(text)}
            )
    finally:
        cancel(choices)
    return JSONResponse(response | {"choices": written, "usage": _usage(choices, num_tokens)})


async def stream(
    choices: Sequence[Choice], response: dict[str, Any], kind: Chat | Completion, *, with_usage: bool
) -> AsyncIterator[str]:
    """Yield server-sent events; when nobody reads on, the texts are given up."""
    num_tokens = 0
    merged: asyncio.Queue[tuple[int, Event]] = asyncio.Queue()

    async def forward(number: int, choice: Choice) -> None:
        event = Event()
        while event.finish_reason is None:
            event = await choice.events.get()
            await merged.put((number, event))

    tasks = [asyncio.create_task(forward(number, choice)) for number, choice in enumerate(choices)]
    begun: set[int] = set()
    num_open = len(choices)
    try:
        while num_open:
            number, event = await merged.get()
            if event.error is not None:
                yield _line(error_body(event.error, "server_error"))
                return
            reason = None if event.finish_reason is None else REASONS[event.finish_reason]
            piece = kind.piece(event.piece, is_first=number not in begun)
            begun.add(number)
            num_open -= reason is not None
            num_tokens += event.num_tokens
            yield _line(response | {"choices": [{"index": number, "finish_reason": reason, **piece}]})
        if with_usage:
            yield _line(response | {"choices": [], "usage": _usage(choices, num_tokens)})
        yield "data: [DONE]\n\n"
    finally:
        cancel(choices)
        for task in tasks:
            task.cancel()


def cancel(choices: Sequence[Choice]) -> None:
    """Give up texts that are not written yet."""
    for choice in choices:
        if choice.job is not None:
            choice.job.cancel()


def _line(content: dict[str, Any]) -> str:
    return f"data: {json.dumps(content, ensure_ascii=False)}\n\n"


def _usage(choices: Sequence[Choice], num_tokens: int) -> dict[str, int]:
    prompts = sum(len(choice.ids) for choice in choices)
    return {"prompt_tokens": prompts, "completion_tokens": num_tokens, "total_tokens": prompts + num_tokens}


def error_body(message: str, kind: str, code: str | None = None) -> dict[str, Any]:
    """Return what OpenAI's clients read an error from."""
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}
