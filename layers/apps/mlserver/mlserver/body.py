"""A limit on what a client may send, which the HTTP server itself does not have."""

from __future__ import annotations

from contextlib import suppress

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class _TooLarge(Exception):
    """More came than is allowed."""


class BodyLimit:
    """Answers 413 to a body above `limit` bytes, told or not told beforehand.

    Args:
        app: What is behind it.
        limit: In bytes.
    """

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app, self._limit = app, limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, or the server's life."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        told = dict(scope["headers"]).get(b"content-length", b"0")
        got, over, begun = 0, False, False

        async def counted() -> Message:
            nonlocal got, over
            message = await receive()
            got += len(message.get("body", b""))
            if got > self._limit:
                over = True
                raise _TooLarge
            return message

        async def sent(message: Message) -> None:
            nonlocal begun
            if over and not begun:
                return  # what the application makes of a body that it could not read
            begun = True
            await send(message)

        if told.isdigit() and int(told) > self._limit:
            over = True
        else:
            with suppress(_TooLarge):
                await self._app(scope, counted, sent)
        if over and not begun:
            remedy = "Send fewer rows in one request."
            error = {"code": "too_large", "message": f"the request is larger than {self._limit} bytes", "remedy": remedy}
            await JSONResponse({"error": error}, status_code=413, headers={"connection": "close"})(scope, receive, send)
