"""A parser in a process of its own: what a stranger wrote may take too long, or kill it, and costs one document."""

from collections.abc import Callable
from functools import partial
from typing import Any

from lmexp.errors import DataError, LmexpError


class Sandbox:
    """Calls one function again and again in another process, which is begun anew when it was lost."""

    def __init__(self, function: Callable[..., Any], timeout_seconds: float, warm_up: tuple[Any, ...]) -> None:
        self.timeout_seconds = timeout_seconds
        self._call = partial(_call, function)
        self._warm_up = warm_up
        self._process: Any = None

    def __call__(self, *arguments: Any) -> Any:
        """Return what the function returns.

        Raises:
            DataError: it takes too long, breaks its process, or fails.
        """
        if self._process is None:
            from datatrove.pipeline.extractors.base import ExtractorSandbox
            from loguru import logger

            logger.disable("datatrove.pipeline.extractors.base")  # it says how many processes it ends

            self._call(*self._warm_up)  # what it imports is imported here, for the process is a fork of this one
            self._process = ExtractorSandbox(timeout=self.timeout_seconds, warmup_text=self._warm_up)
        try:
            result, error = self._process.process_document(arguments, self._call)
        except TimeoutError:
            raise DataError(f"took more than {self.timeout_seconds:g} seconds") from None
        except EOFError:
            raise DataError("broke the process that read it") from None
        if error is not None:
            raise DataError(f"cannot be parsed: {error}")
        return result

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.__exit__(None, None, None)
            self._process = None


def _call(function: Callable[..., Any], *arguments: Any) -> tuple[Any, str | None]:
    try:
        return function(*arguments), None
    except LmexpError:
        raise
    except Exception as error:  # whatever a stranger's page leads to inside a parser
        return None, str(error).strip() or type(error).__name__
