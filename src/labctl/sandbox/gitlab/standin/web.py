"""Requests, answers, routes and pages as GitLab's API has them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from email.parser import BytesParser
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode

from .state import Row, State

PAGE, MOST = 20, 100


class Problem(Exception):
    """A request that is refused, with the status and the body that GitLab gives."""

    def __init__(self, status: int, body: Any) -> None:
        super().__init__(str(body))
        self.status = status
        self.body = body


@dataclass
class Answer:
    """What goes back. `body` is JSON, or text when it is a string; None for no content."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = "application/json"


@dataclass
class Request:
    """A request to the API.

    Attributes:
        method: GET, POST and so on.
        path: The path as it was sent, still encoded.
        query: What stands behind the question mark.
        body: Fields of a form or of a JSON object.
        headers: By lower-case name.
        client: The address that it came from.
        parts: The named parts of the path, decoded.
        user: Who asks; empty before authentication and for runners.
        token: The row of the token that was shown.
    """

    method: str
    path: str
    query: Row
    body: Row
    headers: Mapping[str, str]
    client: str = ""
    parts: dict[str, str] = field(default_factory=dict)
    user: Row = field(default_factory=dict)
    token: Row = field(default_factory=dict)

    def value(self, name: str) -> Any:
        """A parameter, wherever it stands."""
        return self.body.get(name, self.query.get(name))

    def required(self, *names: str) -> list[Any]:
        """Parameters that must be there.

        Raises:
            Problem: 400, with Grape's wording.
        """
        missing = [name for name in names if self.value(name) in (None, "")]
        if missing:
            raise Problem(400, {"error": ", ".join(f"{name} is missing" for name in missing)})
        return [self.value(name) for name in names]

    def flag(self, name: str, default: bool) -> bool:
        """A parameter that is true or false, as JSON or as the word of a form."""
        value = self.value(name)
        return default if value is None else value is True or str(value).lower() in ("true", "1", "yes", "on")

    def words(self, name: str) -> list[str]:
        """A list, or words with commas between."""
        value = self.value(name) or []
        found = value if isinstance(value, list) else str(value).split(",")
        return [str(word).strip() for word in found if str(word).strip()]


Handler = Callable[[State, Request], Any]
Route = tuple[str, str, Handler]
"""Method, path with `:name` parts, and what answers. A handler gives a Row or list (200), or an Answer."""


class Routes:
    """The routes of the API."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._routes = [(method, _pattern(path), handler) for method, path, handler in routes]

    def find(self, request: Request) -> Handler:
        """What answers a request; fills in its `parts`.

        Raises:
            Problem: 404 for an unknown path, 405 for a method that it does not have.
        """
        others = False
        for method, pattern, handler in self._routes:
            if found := pattern.fullmatch(request.path):
                if method == request.method:
                    request.parts = {name: unquote(value) for name, value in found.groupdict().items()}
                    return handler
                others = True
        raise Problem(405, {"error": "405 Not Allowed"}) if others else Problem(404, {"error": "404 Not Found"})


def _pattern(path: str) -> re.Pattern[str]:
    return re.compile(re.sub(r":(\w+)", r"(?P<\1>[^/]+)", path))


def fields(pairs: Sequence[tuple[str, Any]]) -> Row:
    """Fields of a form: `tag_list[]` gathers a list, `variables[NAME]` an object, `variables[][key]` a list of objects."""
    found: Row = {}
    for name, value in pairs:
        base, *keys = re.split(r"\]?\[", name.rstrip("]"))
        if not keys:
            found[base] = value
        elif keys == [""]:
            found.setdefault(base, []).append(value)
        elif keys[0] == "":
            rows = found.setdefault(base, [])
            if not rows or keys[1] in rows[-1]:
                rows.append({})
            rows[-1][keys[1]] = value
        else:
            found.setdefault(base, {})[keys[0]] = value
    return found


def body_fields(content_type: str, content: bytes) -> Row:
    """The fields of a request's body.

    Raises:
        Problem: 400, it is not what its type says.
    """
    if not content:
        return {}
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "application/json":
        try:
            found = json.loads(content)
        except ValueError as error:
            raise Problem(400, {"error": "The request body is not valid JSON"}) from error
        if not isinstance(found, dict):
            raise Problem(400, {"error": "The request body is not a JSON object"})
        return found
    if kind == "multipart/form-data":
        message = BytesParser().parsebytes(f"Content-Type: {content_type}\r\n\r\n".encode() + content)
        return fields(
            [
                (str(part.get_param("name", header="content-disposition")), part.get_payload(decode=True).decode())  # type: ignore[union-attr]
                for part in message.get_payload()
            ]
        )
    if kind == "application/x-www-form-urlencoded":
        return fields(parse_qsl(content.decode(), keep_blank_values=True))
    return {}


def page(request: Request, rows: Sequence[Any]) -> Answer:
    """One page of rows, with GitLab's headers."""
    per_page = min(_number(request, "per_page", PAGE), MOST)
    number = _number(request, "page", 1)
    pages = max(1, -(-len(rows) // per_page))
    host = request.headers.get("host", "localhost")

    def link(to: int) -> str:
        query = urlencode({**{k: v for k, v in request.query.items() if k != "private_token"}, "page": to, "per_page": per_page})
        return f"http://{host}/api/v4{request.path}?{query}"

    links = {"first": 1, "last": pages}
    if number > 1:
        links["prev"] = number - 1
    if number < pages:
        links["next"] = number + 1
    headers = {
        "X-Page": str(number),
        "X-Per-Page": str(per_page),
        "X-Total": str(len(rows)),
        "X-Total-Pages": str(pages),
        "X-Next-Page": str(links.get("next", "")),
        "X-Prev-Page": str(links.get("prev", "")),
        "Link": ", ".join(f'<{link(to)}>; rel="{name}"' for name, to in sorted(links.items())),
    }
    return Answer(200, list(rows[(number - 1) * per_page : number * per_page]), headers)


def _number(request: Request, name: str, default: int) -> int:
    value = request.query.get(name) or default
    try:
        number = int(value)
    except ValueError as error:
        raise Problem(400, {"error": f"{name} is invalid"}) from error
    if number < 1:
        raise Problem(400, {"error": f"{name} does not have a valid value"})
    return number


def not_found(what: str) -> Problem:
    """404 as GitLab words it: `404 Project Not Found`."""
    return Problem(404, {"message": f"404 {what} Not Found"})


def invalid(**problems: str) -> Problem:
    """400 with the problems of each field."""
    return Problem(400, {"message": {name: [text] for name, text in problems.items()}})
