"""A run behind OpenAI's HTTP interface, for this machine only: chat and text completions, streamed or whole.

FastAPI answers, uvicorn listens, one `Engine` writes all texts.
"""

import asyncio
import contextlib
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lmexp.checkpoints import LoadedRun
from lmexp.data.formats import messages_of
from lmexp.data.messages import Role, conversation
from lmexp.errors import DataError, LmexpError, MissingPackageError, RunError
from lmexp.generation.forms import Continuation, Form
from lmexp.generation.sampling import Sampling
from lmexp.generation.text import read, require_room
from lmexp.runs.dashboard import HOST, HOSTS, listen
from lmexp.serving.dialogue import answer_of
from lmexp.serving.engine import BusyError, Engine, Event
from lmexp.serving.requests import ChatRequest, CompletionRequest, Request
from lmexp.serving.responses import Chat, Choice, Completion, cancel, error_body, stream, whole

try:
    import fastapi
    import uvicorn
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import JSONResponse, Response, StreamingResponse
    from starlette.exceptions import HTTPException
    from starlette.middleware.trustedhost import TrustedHostMiddleware
except ModuleNotFoundError as error:
    raise MissingPackageError((error.name or "fastapi").partition(".")[0], "serve") from None

LARGEST_BODY_BYTES = 2**20
DEFAULT_COMPLETION_TOKENS = 16
"""As OpenAI has it; of a chat the default is the limit."""


@dataclass(frozen=True)
class Limits:
    """What a request may take."""

    max_tokens: int = 1024
    max_requests: int = 64
    timeout_seconds: float = 120.0


def serve(loaded: LoadedRun, *, port: int, limits: Limits, say: Callable[[str], None] = print) -> None:
    """Answer on 127.0.0.1 until Ctrl-C; port 0 takes a free one.

    Raises:
        RunError: the port is in use or not allowed.
    """
    with listen(port) as listener:
        address = f"http://{HOST}:{listener.getsockname()[1]}/v1"
        say(f"{loaded.run.path.name}: {address}  (only this machine reaches it; Ctrl-C ends it)")
        settings = uvicorn.Config(
            application(loaded, limits), log_level="error", lifespan="off", timeout_graceful_shutdown=1
        )
        with contextlib.suppress(KeyboardInterrupt):
            uvicorn.Server(settings).run(sockets=[listener])


def application(loaded: LoadedRun, limits: Limits) -> fastapi.FastAPI:
    """Return the web application; it refuses names other than this machine's own, so no other site can use it."""
    endpoint = Endpoint(loaded, limits)
    app = fastapi.FastAPI(title="lmexp", openapi_url=None)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=HOSTS)
    app.add_middleware(BodyLimit)
    app.add_api_route("/v1/models", endpoint.models, methods=["GET"])
    app.add_api_route("/v1/models/{name}", endpoint.model, methods=["GET"])
    app.add_api_route("/v1/chat/completions", endpoint.chat, methods=["POST"], response_model=None)
    app.add_api_route("/v1/completions", endpoint.complete, methods=["POST"], response_model=None)
    app.add_exception_handler(RequestValidationError, _say_what_is_wrong)
    app.add_exception_handler(LmexpError, _say_problem)
    app.add_exception_handler(HTTPException, _say_status)
    return app


class Endpoint:
    """What each address does."""

    def __init__(self, loaded: LoadedRun, limits: Limits) -> None:
        self.loaded, self.limits = loaded, limits
        self.name = loaded.run.path.name
        self.engine = Engine(loaded.model, max_requests=limits.max_requests, timeout_seconds=limits.timeout_seconds)
        self._num_asked = 0

    async def models(self) -> dict[str, Any]:
        """List the one model that is there."""
        return {"object": "list", "data": [self._described()]}

    async def model(self, name: str) -> dict[str, Any]:
        """Describe a model."""
        self._require_model(name)
        return self._described()

    async def chat(self, asked: ChatRequest, request: fastapi.Request) -> Response:
        """Go on with a conversation."""
        self._require_model(asked.model)
        form = answer_of(self.loaded)
        messages = messages_of(asked.messages, "messages")
        conversation(messages, "messages")
        if messages[-1].role is Role.assistant:
            raise DataError("messages: the last one is an answer already; end with what is to be answered")
        ids = form.ids_of(messages)
        require_room(self.loaded.model, ids, "the conversation")
        sampling = self._sampling(asked, self.limits.max_tokens)
        return await self._respond(asked, request, [(form, ids)], sampling, Chat())

    async def complete(self, asked: CompletionRequest, request: fastapi.Request) -> Response:
        """Go on with texts."""
        self._require_model(asked.model)
        form = Continuation(self.loaded.tokenizer)
        read_prompts = [(form, read(self.loaded.model, form, prompt)) for prompt in asked.prompts]
        sampling = self._sampling(asked, DEFAULT_COMPLETION_TOKENS)
        return await self._respond(asked, request, read_prompts, sampling, Completion())

    def _sampling(self, asked: Request, default_tokens: int) -> Sampling:
        self._num_asked += 1
        return asked.sampling(
            most_tokens=self.limits.max_tokens,
            default_tokens=min(default_tokens, self.limits.max_tokens),
            seed=self._num_asked,
        )

    async def _respond(
        self,
        asked: Request,
        request: fastapi.Request,
        prompts: Sequence[tuple[Form, list[int]]],
        sampling: Sampling,
        kind: Chat | Completion,
    ) -> Response:
        choices = [
            Choice(form, ids, replace(sampling, seed=sampling.seed + number))
            for form, ids in prompts
            for number in range(asked.num_choices)
        ]
        self._submit(choices)
        response = {
            "id": f"{kind.prefix}-{uuid.uuid4().hex}",
            "object": kind.name,
            "created": int(time.time()),
            "model": self.name,
        }
        if asked.stream:
            with_usage = asked.stream_options is not None and asked.stream_options.include_usage
            lines = stream(choices, response | {"object": kind.chunk_name}, kind, with_usage=with_usage)
            return StreamingResponse(lines, media_type="text/event-stream", headers={"Cache-Control": "no-cache"})
        return await whole(choices, request, response, kind)

    def _submit(self, choices: Sequence[Choice]) -> None:
        loop = asyncio.get_running_loop()
        try:
            for choice in choices:

                def tell(event: Event, events: "asyncio.Queue[Event]" = choice.events) -> None:
                    with contextlib.suppress(RuntimeError):  # the server has ended
                        loop.call_soon_threadsafe(events.put_nowait, event)

                choice.job = self.engine.submit(choice.form, choice.ids, choice.sampling, tell)
        except BusyError:
            cancel(choices)
            raise

    def _require_model(self, name: str | None) -> None:
        if name not in (None, self.name):
            raise RunError(f"model: there is no {name}; there is {self.name}")

    def _described(self) -> dict[str, Any]:
        return {"id": self.name, "object": "model", "created": 0, "owned_by": "lmexp"}


async def _say_problem(request: fastapi.Request, error: Exception) -> Response:
    if isinstance(error, BusyError):
        return JSONResponse(error_body(str(error), "rate_limit_error"), status_code=429, headers={"Retry-After": "1"})
    status = 404 if isinstance(error, RunError) and str(error).startswith("model:") else 400
    return JSONResponse(error_body(str(error), "invalid_request_error"), status_code=status)


async def _say_what_is_wrong(request: fastapi.Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    problems = [
        f"{'.'.join(map(str, problem['loc'][1:])) or 'the body'}: {problem['msg']}" for problem in error.errors()
    ]
    return JSONResponse(error_body("; ".join(problems), "invalid_request_error"), status_code=400)


async def _say_status(request: fastapi.Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse(error_body(str(error.detail), "invalid_request_error"), status_code=error.status_code)


class BodyLimit:
    """Refuses what is larger than any conversation that a model here could read."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer, or hand the request on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        messages, size = [], 0
        while True:
            message = await receive()
            messages.append(message)
            size += len(message.get("body", b""))
            if size > LARGEST_BODY_BYTES:
                response = JSONResponse(
                    error_body(f"a request has at most {LARGEST_BODY_BYTES:,} bytes", "invalid_request_error"),
                    status_code=413,
                )
                await response(scope, receive, send)
                return
            if message["type"] != "http.request" or not message.get("more_body"):
                break

        async def again() -> Any:
            return messages.pop(0) if messages else await receive()

        await self.app(scope, again, send)
