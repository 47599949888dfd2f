"""What a request may hold, in the words of OpenAI's interface; what is not done here is refused by name."""

from collections.abc import Iterator
from typing import Any

from lmexp.errors import ConfigError, MissingPackageError, Problem
from lmexp.generation.sampling import Sampling

try:
    from pydantic import BaseModel, ConfigDict, Field
except ModuleNotFoundError:
    raise MissingPackageError("fastapi", "serve") from None

MOST_CHOICES = 16
NOT_DONE: dict[str, tuple[Any, ...]] = {
    "logprobs": (None, False, 0),
    "top_logprobs": (None, 0),
    "logit_bias": (None, {}),
    "frequency_penalty": (None, 0),
    "presence_penalty": (None, 0),
    "tools": (None, []),
    "functions": (None, []),
    "response_format": (None, {"type": "text"}),
    "suffix": (None, ""),
    "echo": (None, False),
    "best_of": (None, 1),
}
"""Settings with the values that ask for nothing."""


class StreamOptions(BaseModel):
    """What is sent with a stream."""

    include_usage: bool = False


class Request(BaseModel):
    """What both kinds of completion may be asked for."""

    model_config = ConfigDict(extra="allow")

    model: str | None = None
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    n: int | None = Field(None, ge=1, le=MOST_CHOICES)
    stop: str | list[str] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    seed: int | None = None
    top_k: int | None = Field(None, ge=1)
    min_p: float | None = Field(None, ge=0, le=1)
    repetition_penalty: float | None = Field(None, gt=0)

    @property
    def num_choices(self) -> int:
        """How many texts are asked for."""
        return self.n or 1

    def sampling(self, *, most_tokens: int, default_tokens: int, seed: int) -> Sampling:
        """Return how tokens are chosen.

        Raises:
            ConfigError: it asks for what is not done here.
        """
        problems = list(self._problems(most_tokens))
        if problems:
            raise ConfigError(problems)
        stop = [self.stop] if isinstance(self.stop, str) else self.stop or []
        top_p = None if self.top_p == 1 else self.top_p
        return Sampling(
            max_tokens=self.max_completion_tokens or self.max_tokens or default_tokens,
            temperature=1.0 if self.temperature is None else self.temperature,
            top_p=top_p,
            top_k=self.top_k,
            min_p=self.min_p,
            repetition_penalty=self.repetition_penalty or 1.0,
            stop=tuple(stop),
            seed=abs(seed if self.seed is None else self.seed),
        )

    def _problems(self, most_tokens: int) -> Iterator[Problem]:
        more: dict[str, Any] = self.model_extra or {}
        for key, nothing in NOT_DONE.items():
            if more.get(key) not in nothing:
                yield Problem(key, "is not done here; leave it out")
        for key in ("max_tokens", "max_completion_tokens"):
            if (getattr(self, key) or 0) > most_tokens:
                yield Problem(key, f"must be at most {most_tokens}")
        if self.num_choices > 1 and self.temperature == 0:
            yield Problem("n", "at temperature 0 all texts are alike; give a temperature")


class ChatRequest(Request):
    """A conversation that is to go on."""

    messages: list[dict[str, Any]] = Field(min_length=1)


class CompletionRequest(Request):
    """Texts that are to go on."""

    prompt: str | list[str] = ""

    @property
    def prompts(self) -> list[str]:
        """The texts."""
        return [self.prompt] if isinstance(self.prompt, str) else self.prompt
