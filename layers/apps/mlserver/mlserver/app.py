"""The HTTP interface."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, JsonValue
from starlette.exceptions import HTTPException

from mlserver.body import BodyLimit
from mlserver.config import Config, Release
from mlserver.events import Events
from mlserver.models import Models, Refused, Serving, Status
from mlserver.routing import choose

logger = logging.getLogger(__name__)

MAX_BODY_BYTES = 512 * 1024
"""An event holds the request, and Kafka's brokers take 1 MiB by default."""
MAX_ROWS = 1000


class Problem(Exception):
    """An answer that is no success.

    Args:
        status: HTTP's status.
        code: What it is, for programs.
        message: What it is, for people.
        remedy: What to do next.
    """

    def __init__(self, status: int, code: str, message: str, remedy: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.remedy = status, code, message, remedy

    def response(self) -> JSONResponse:
        """As JSON."""
        body = {"error": {"code": self.code, "message": self.message, "remedy": self.remedy}}
        return JSONResponse(body, status_code=self.status)


class Inference(BaseModel):
    """A request for predictions.

    Attributes:
        inputs: Rows: objects of column and value, or lists of values.
        key: Who asks, as a user's or a session's id: the same key is answered by the same model. Without it any model answers.
    """

    model_config = ConfigDict(extra="forbid")

    inputs: list[dict[str, JsonValue]] | list[list[JsonValue]] = Field(min_length=1, max_length=MAX_ROWS)
    key: str | None = Field(None, min_length=1, max_length=256)


class Feedback(BaseModel):
    """What somebody thinks of an answer.

    Attributes:
        id: The inference's.
        correct: Whether it was right.
        value: What would have been right, or a mark.
        comment: In words.
    """

    model_config = ConfigDict(extra="forbid")

    id: UUID
    correct: bool | None = None
    value: JsonValue = None
    comment: str = Field("", max_length=2000)


def create_app(config: Config, release: Release, models: Models, events: Events) -> FastAPI:
    """The server. Its life starts and stops `models`, and ends `events`."""

    @asynccontextmanager
    async def life(_app: FastAPI) -> AsyncIterator[None]:
        models.start()
        yield
        models.stop()
        events.close()

    app = FastAPI(title="mlserver", version=release.version, lifespan=life)
    app.add_middleware(BodyLimit, limit=MAX_BODY_BYTES)
    _answer_problems(app)

    @app.get("/health")
    def health() -> JSONResponse:
        statuses = models.statuses()
        body = {
            "status": (word := _health(statuses)),
            "models": [
                {
                    "name": status.choice.name,
                    "alias": status.choice.alias,
                    "state": status.state,
                    "version": status.version,
                    "detail": status.detail,
                }
                for status in statuses
            ],
            "events": events.counts().as_dict(),
        }
        return JSONResponse(body, status_code=503 if word == "failing" else 200)

    @app.get("/version")
    def version() -> dict[str, str]:
        return {"version": release.version, "image": release.image, "digest": release.digest}

    @app.post("/infer")
    def infer(request: Inference) -> dict[str, Any]:
        # Not async: a model computes, and does so in a thread of its own.
        begun = time.perf_counter()
        number = str(uuid4())
        serving = _chosen(models.serving(), models.statuses(), request.key or number)
        predictions = _predicted(serving, request.inputs)
        model = {"name": serving.choice.name, "alias": serving.choice.alias, "version": serving.version}
        answer = {"id": number, "model": model, "predictions": predictions}
        events.send(
            config.topics.results,
            request.key or number,
            answer
            | {
                "at": _now(),
                "key": request.key,
                "assigned": str(choose(config.models, request.key or number)),
                "inputs": request.inputs,
                "took_ms": round((time.perf_counter() - begun) * 1000, 3),
                "server": release.image or release.version,
            },
        )
        return answer

    @app.post("/feedback", status_code=202)
    def feedback(request: Feedback) -> dict[str, str]:
        if request.correct is None and request.value is None and not request.comment:
            raise Problem(422, "empty_feedback", "the feedback says nothing", "Send at least one of correct, value, comment.")
        event = request.model_dump(mode="json") | {"at": _now(), "server": release.image or release.version}
        events.send(config.topics.feedback, str(request.id), event)
        return {"id": str(request.id), "status": "accepted"}

    return app


def _chosen(serving: Sequence[Serving], statuses: Sequence[Status], key: str) -> Serving:
    if serving:
        return choose(serving, key)
    if any(status.state == "starting" for status in statuses):
        said = "; ".join(f"{status.choice}: {status.detail or 'not loaded yet'}" for status in statuses)
        raise Problem(
            503, "starting", f"no model is loaded yet: {said}", "Ask again in a few seconds; /health tells how it stands."
        )
    said = "; ".join(f"{status.choice}: {status.detail}" for status in statuses)
    failed = any(status.state == "failed" for status in statuses)
    remedy = (
        "Give the alias to a version that can be loaded here." if failed else "Give a version of the model that alias in MLflow."
    )
    raise Problem(503, "no_model", f"no model can answer: {said}", remedy)


def _predicted(serving: Serving, rows: Sequence[Any]) -> list[Any]:
    try:
        return serving.predictor.predict(rows)
    except Refused as error:
        raise Problem(
            422,
            "refused_inputs",
            f"{serving} version {serving.version}: {error}",
            "Send rows with the columns that the model takes.",
        ) from error
    except Exception as error:
        logger.exception("%s version %s failed", serving, serving.version)
        raise Problem(
            500,
            "model_failed",
            f"{serving} version {serving.version}: {type(error).__name__}: {error}",
            "The server's log has the traceback; move the alias back to a version that works.",
        ) from error


def _health(statuses: Sequence[Status]) -> str:
    """`ok`, `degraded` (it answers, yet not as configured), or `failing`: a deploy that ends so is no good one."""
    if not all(status.holds for status in statuses):
        return "failing"
    return "ok" if all(status.state == "ready" and not status.detail for status in statuses) else "degraded"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _answer_problems(app: FastAPI) -> None:
    """Makes all errors JSON of one shape."""

    @app.exception_handler(Problem)
    async def problem(_request: Request, error: Problem) -> JSONResponse:
        return error.response()

    @app.exception_handler(RequestValidationError)
    async def invalid(_request: Request, error: RequestValidationError) -> JSONResponse:
        said = "; ".join(f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}" for item in error.errors()[:5])
        return Problem(422, "invalid_request", said, "The shape of requests is told at /docs.").response()

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        said = f"{request.method} {request.url.path}: {error.detail}"
        return Problem(error.status_code, "http", said, "What there is is told at /docs.").response()

    @app.exception_handler(Exception)
    async def unexpected(_request: Request, error: Exception) -> JSONResponse:
        return Problem(500, "unexpected", f"{type(error).__name__}: {error}", "The server's log has the traceback.").response()
