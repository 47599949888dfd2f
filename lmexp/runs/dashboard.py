"""The report page while runs are going on: a small server on 127.0.0.1 that only this machine reaches.

Two addresses: `/` is the page, `/content.json` the newest content, answered with 304 while nothing has changed. The
content is read at most once in KEEP_SECONDS, however many pages are open. starlette answers, uvicorn listens.
"""

import contextlib
import hashlib
import os
import socket
import threading
import time
import webbrowser
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from lmexp.errors import LmexpError, MissingPackageError, RunError
from lmexp.runs.report.page import as_json, page, policy

if TYPE_CHECKING:
    from starlette.applications import Starlette

HOST = "127.0.0.1"
HOSTS = [HOST, "localhost"]
KEEP_SECONDS = 2.0
HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-cache"}
Content = dict[str, Any]


def serve(
    content: Callable[[], Content], *, port: int, open_browser: bool = False, say: Callable[[str], None] = print
) -> None:
    """Show the page on 127.0.0.1 until Ctrl-C; port 0 takes a free one.

    Raises:
        MissingPackageError: starlette or uvicorn is not installed.
        RunError: the port is in use or not allowed.
        LmexpError: what `content` raises when it is first asked.
    """
    newest = Newest(content)
    app = application(newest)
    import uvicorn

    newest.get()
    with listen(port) as listener:
        address = f"http://{HOST}:{listener.getsockname()[1]}/"
        say(f"dashboard: {address}  (only this machine reaches it; Ctrl-C ends it)")
        if open_browser:
            webbrowser.open(address)
        settings = uvicorn.Config(app, log_level="error", lifespan="off", timeout_graceful_shutdown=1)
        with contextlib.suppress(KeyboardInterrupt):
            uvicorn.Server(settings).run(sockets=[listener])


class Newest:
    """The content, read anew when it is older than KEEP_SECONDS, with its JSON and a tag that changes when it does."""

    def __init__(self, read: Callable[[], Content]) -> None:
        self._read = read
        self._lock = threading.Lock()
        self._until = 0.0
        self._kept: tuple[Content, bytes, str] | None = None

    def get(self) -> tuple[Content, bytes, str]:
        """Return (content, its JSON, its tag)."""
        with self._lock:
            if self._kept is None or time.monotonic() > self._until:
                content = self._read()
                body = as_json(content).encode()
                self._kept = content, body, f'"{hashlib.sha256(body).hexdigest()[:32]}"'
                self._until = time.monotonic() + KEEP_SECONDS
            return self._kept


def application(newest: Newest) -> "Starlette":
    """Return the web application; it refuses names other than this machine's own, so no other site can read it."""
    try:
        import uvicorn  # noqa: F401 - missing packages are said at once
        from starlette.applications import Starlette
        from starlette.middleware import Middleware
        from starlette.middleware.trustedhost import TrustedHostMiddleware
        from starlette.requests import Request
        from starlette.responses import HTMLResponse, PlainTextResponse, Response
        from starlette.routing import Route
    except ModuleNotFoundError as error:
        raise MissingPackageError((error.name or "starlette").partition(".")[0], "serve") from None

    # Plain functions: starlette runs them in a thread, so reading many runs blocks nobody.
    def show(request: Request) -> Response:
        html = page(newest.get()[0], live=True)
        rules = policy(live=True) + "; frame-ancestors 'none'"
        return HTMLResponse(html, headers=HEADERS | {"Content-Security-Policy": rules})

    def show_content(request: Request) -> Response:
        _, body, tag = newest.get()
        headers = HEADERS | {"ETag": tag}
        if request.headers.get("If-None-Match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(body, media_type="application/json", headers=headers)

    def say_problem(request: Request, error: Exception) -> Response:
        return PlainTextResponse(str(error), status_code=503, headers=HEADERS)

    return Starlette(
        routes=[Route("/", show), Route("/content.json", show_content)],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=HOSTS)],
        exception_handlers={LmexpError: say_problem},
    )


def listen(port: int) -> socket.socket:
    """Return a socket on 127.0.0.1; port 0 takes a free one.

    Raises:
        RunError: the port is in use or not allowed.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    if os.name == "posix":
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen()
    except OSError as error:
        listener.close()
        raise RunError(
            f"port {port} cannot be used on {HOST} ({error.strerror}): another server may be open there; "
            f"choose another port, or 0 for a free one"
        ) from None
    return listener
