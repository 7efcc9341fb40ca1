"""A week of nightly checks and their issues: python-gitlab against the stand-in."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import gitlab as python_gitlab
import pytest

from labctl.adapters.gitlab import GitLab, Invalid, NotThere
from labctl.engine.drift import notify
from labctl.engine.drift.notify import tell, tell_gitlab
from labctl.model.drift import AreaDrift, Change, DriftReport, Entry, Finding, StackDrift, Verdict
from labctl.model.drift.acceptance import Acceptance, hold_against
from labctl.model.drift.memory import Remembered, remember
from labctl.model.drift.notices import LABEL
from labctl.model.driftsettings import WEBHOOK_VARIABLE, DriftSettings
from labctl.model.errors import AdapterError
from labctl.model.secret import Secret
from tests.gitlabstandin import ADDRESS, ROOT_TOKEN, Standin, free_port
from tests.unit.drift.reports import AT, DELETED, FOREIGN, MEMORY, POLICY

pytestmark = pytest.mark.integration

PROJECT = "ops/drift"
STACKS = (StackDrift("platform", "platform", Verdict.DRIFTED),)
AREAS = (AreaDrift("proxmox"), AreaDrift("vault"))


@pytest.fixture
def gitlab(standin: Standin) -> Iterator[GitLab]:
    found = GitLab(standin.url, Secret(ROOT_TOKEN))
    found.create_project(PROJECT)
    yield found
    found.close()


def connected(standin: Standin) -> GitLab:
    return GitLab(standin.url, Secret(ROOT_TOKEN), timeout_s=5)


class Nights:
    """Checks, each remembering the one before."""

    def __init__(self, standin: Standin) -> None:
        self.standin = standin
        self.before: dict[str, Remembered] = {}
        self.day = 0

    def check(
        self, *findings: Finding, accept: tuple[Acceptance, ...] = (), looked: tuple[str, ...] = ("platform", "proxmox", "vault")
    ) -> DriftReport:
        at = AT + timedelta(days=self.day)
        self.day += 1
        judged, unused = hold_against(findings, accept, at.date())
        entries, gone, self.before = remember(judged, self.before, at, looked)
        stacks = tuple(s if s.name in looked else replace(s, verdict=Verdict.LOCKED) for s in STACKS)
        areas = tuple(a if a.name in looked else replace(a, problems=("it does not answer.",)) for a in AREAS)
        report = DriftReport("datalab", "sandbox", at, 1.0, stacks, areas, entries, gone, unused)
        return tell_gitlab(report, PROJECT, lambda: connected(self.standin))

    def issues(self) -> list[Any]:
        project = self.standin.client().projects.get(PROJECT)
        return list(project.issues.list(labels=[LABEL], state="all", get_all=True, order_by="created_at", sort="asc"))

    def states(self) -> dict[str, str]:
        return {issue.title.removeprefix("datalab: "): issue.state for issue in self.issues()}

    def notes(self, number: int) -> list[str]:
        issue = self.standin.client().projects.get(PROJECT).issues.get(number)
        return [note.body for note in issue.notes.list(get_all=True, sort="asc")]


def test_a_week_of_nights(standin: Standin, gitlab: GitLab) -> None:
    nights = Nights(standin)
    assert nights.check(MEMORY, FOREIGN).warnings == ()
    assert nights.states() == {"memory of guest gitlab was set to 4096 MiB": "opened", FOREIGN.text: "opened"}

    nights.check(MEMORY, FOREIGN, DELETED)  # still there, and one more
    assert list(nights.states().values()) == ["opened"] * 3
    assert "Found by 2 checks in a row since 2026-01-31, last 2026-02-01" in nights.issues()[0].description
    assert nights.notes(1) == []

    less = replace(MEMORY, changes=(Change("memory.dedicated", 8192, 512), MEMORY.changes[1]))
    nights.check(less, FOREIGN)  # another value; the guest was made again
    assert nights.states()[DELETED.text] == "closed"
    assert nights.notes(3) == ["No longer so at the check of 2026-02-02 02:30 UTC."]
    assert "memory.dedicated: 8192 → 512" in nights.notes(1)[0]

    nights.check(looked=())  # nothing could be looked at: nothing is gone
    assert list(nights.states().values()).count("opened") == 2

    let_be = Acceptance(id="qemu/105", reason="a test", owner="ops", until=date(2026, 2, 5))
    nights.check(less, FOREIGN, accept=(let_be,))
    assert nights.states()[FOREIGN.text] == "closed"
    assert nights.notes(2) == ["Accepted until 2026-02-05, by ops: a test"]

    nights.check(DELETED, FOREIGN, accept=(let_be,))  # memory is right again; the guest is gone again
    assert list(nights.states().values()) == ["closed", "closed", "opened"]
    assert nights.notes(3)[-1] == "It is back: guest runner was deleted outside"

    nights.check(DELETED, FOREIGN, accept=(let_be,))  # the acceptance has run out
    assert list(nights.states().values()) == ["closed", "opened", "opened"]
    assert nights.notes(2)[-1].startswith("It was accepted until 2026-02-05, and is still so:")
    assert len(nights.issues()) == 3


def test_what_is_kept_outlives_a_restart_of_gitlab(standin: Standin, gitlab: GitLab) -> None:
    nights = Nights(standin)
    nights.check(MEMORY)
    standin.stop()
    standin.start()
    nights.check(MEMORY)
    assert [issue.state for issue in nights.issues()] == ["opened"]


def test_gitlab_that_is_down_is_a_warning(standin: Standin, gitlab: GitLab) -> None:
    nights = Nights(standin)
    standin.stop()
    report = nights.check(MEMORY)
    assert len(report.warnings) == 1
    assert report.warnings[0].startswith(f"issues: {standin.url}: connection refused.")
    assert [e.finding for e in report.entries] == [MEMORY]
    standin.start()
    assert nights.check(MEMORY).warnings == ()
    assert "Found by 2 checks" in nights.issues()[0].description


def test_gitlab_that_goes_away_in_between(standin: Standin, gitlab: GitLab, monkeypatch: pytest.MonkeyPatch) -> None:
    do = notify._do
    done: list[str] = []

    def twice(*arguments: Any) -> None:
        if len(done) == 1:
            standin.stop()
        do(*arguments)
        done.append("")

    monkeypatch.setattr(notify, "_do", twice)
    report = Nights(standin).check(MEMORY, FOREIGN, DELETED)
    (warning,) = report.warnings
    assert warning.endswith("2 of 3 are left for the next check.")


def test_one_that_is_refused_hides_no_other(standin: Standin, gitlab: GitLab, monkeypatch: pytest.MonkeyPatch) -> None:
    create = GitLab.create_issue

    def refusing(self: GitLab, project: str, title: str, *rest: Any) -> Any:
        return create(self, project, "x" * 256 if "105" in title else title, *rest)

    monkeypatch.setattr(GitLab, "create_issue", refusing)
    report = Nights(standin).check(FOREIGN, POLICY, MEMORY)
    (warning,) = report.warnings
    assert "is too long" in warning
    assert len(Nights(standin).issues()) == 2


def test_a_project_that_is_not_there_is_a_warning(standin: Standin) -> None:
    report = Nights(standin).check(MEMORY)
    (warning,) = report.warnings
    assert "cannot list the issues of project ops/drift: it is not there" in warning


def test_more_than_twenty_are_told_in_a_line(standin: Standin, gitlab: GitLab) -> None:
    nights = Nights(standin)
    many = [replace(FOREIGN, id=f"qemu/{n}", text=f"guest {n} is not declared") for n in range(200, 223)]
    assert nights.check(*many).warnings == ("3 more findings have no issue yet: a check opens a few at most",)
    assert len(nights.issues()) == 20
    assert nights.check(*many).warnings == ()
    assert len(nights.issues()) == 23


def test_a_vault_that_does_not_open_is_a_warning() -> None:
    def sealed() -> GitLab:
        raise AdapterError("the Vault is sealed", hint="Run `labctl vault unseal`.")

    report = DriftReport("datalab", "sandbox", AT, 1.0)
    assert tell_gitlab(report, PROJECT, sealed).warnings == ("issues: the Vault is sealed. Run `labctl vault unseal`.",)


class TestAdapter:
    def test_an_issue(self, gitlab: GitLab) -> None:
        made = gitlab.create_issue(PROJECT, "one", "text", (LABEL, "other"))
        assert (made.number, made.open, made.labels) == (1, True, (LABEL, "other"))
        gitlab.create_issue(PROJECT, "no label", "text", ())
        assert not gitlab.change_issue(PROJECT, 1, state="close").open
        assert gitlab.change_issue(PROJECT, 1, description="new", state="reopen").description == "new"
        assert [issue.title for issue in gitlab.issues(PROJECT, LABEL)] == ["one"]
        with pytest.raises(NotThere):
            gitlab.add_note(PROJECT, 99, "text")
        with pytest.raises(Invalid):
            gitlab.add_note(PROJECT, 1, "x" * 1_048_577)

    def test_all_pages(self, gitlab: GitLab) -> None:
        for number in range(103):
            gitlab.create_issue(PROJECT, str(number), "", (LABEL,))
        assert [issue.title for issue in gitlab.issues(PROJECT, LABEL)] == [str(n) for n in range(103)]


class TestStandin:
    def test_filters_and_refusals(self, standin: Standin, gitlab: GitLab) -> None:
        issues = standin.client().projects.get(PROJECT).issues
        first = issues.create({"title": "first", "labels": "a,b"})
        issues.create({"title": "second", "labels": ["b"]})
        first.state_event = "close"
        first.save()
        assert (first.state, first.attributes["closed_by"]["username"]) == ("closed", "root")
        queries: dict[str, dict[str, Any]] = {
            "all": {},
            "opened": {"state": "opened"},
            "closed": {"state": "closed"},
            "a": {"labels": ["a"]},
            "ab": {"labels": ["a", "b"]},
        }
        listed = {name: [issue.title for issue in issues.list(get_all=True, **query)] for name, query in queries.items()}
        assert listed == {"all": ["second", "first"], "opened": ["second"], "closed": ["first"], "a": ["first"], "ab": ["first"]}
        for fields in ({"title": ""}, {"title": " "}, {"title": "x" * 256}):
            with pytest.raises(python_gitlab.GitlabCreateError) as refused:
                issues.create(fields)
            assert refused.value.response_code == 400
        with pytest.raises(python_gitlab.GitlabHttpError):
            standin.client().http_put(f"/projects/ops%2Fdrift/issues/{first.iid}", post_data={"state_event": "explode"})


class Hook(http.server.BaseHTTPRequestHandler):
    """A webhook's receiver."""

    received: list[Any]
    status = 200
    silent: threading.Event | None = None

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.received.append((self.path, self.headers["Content-Type"], body))
        if self.silent:
            self.silent.wait(30)
        self.send_response(self.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_arguments: Any) -> None:
        """Says nothing."""


@pytest.fixture
def hook() -> Iterator[tuple[str, type[Hook]]]:
    kind = type("ThisHook", (Hook,), {"received": []})
    server = http.server.ThreadingHTTPServer((ADDRESS, 0), kind)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://{ADDRESS}:{server.server_address[1]}/T0P-SECRET?token=T0P-SECRET", kind
    if kind.silent:
        kind.silent.set()
    server.shutdown()
    thread.join()
    server.server_close()


def nobody() -> GitLab:
    raise AssertionError("no project is named")


class TestWebhook:
    REPORT = DriftReport("datalab", "sandbox", AT, 1.0, STACKS, AREAS, (Entry(MEMORY, AT),))

    def test_it_gets_the_document(self, hook: tuple[str, type[Hook]], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv(WEBHOOK_VARIABLE, raising=False)
        assert tell(self.REPORT, DriftSettings(webhook=hook[0]), nobody).warnings == ()
        ((path, kind, document),) = hook[1].received
        assert (path, kind) == ("/T0P-SECRET?token=T0P-SECRET", "application/json")
        assert (document["schema"], document["stacks"][0]["resources"][0]["guest"]) == (1, "gitlab")

    @pytest.mark.parametrize(
        ("status", "url", "message"),
        [
            (404, "", "webhook at 127.93.1.1: it answers 404. Is drift.webhook, or its token, still right?"),
            (302, "", "webhook at 127.93.1.1: it answers 302."),
            (200, "http://127.93.1.1:{port}/T0P-SECRET", "webhook at 127.93.1.1: it cannot be reached."),
            (200, "http://hooks.invalid/T0P-SECRET", "webhook at hooks.invalid: it cannot be reached."),
            (200, "T0P-SECRET", "webhook: it is no URL: write https://host/path (drift.webhook, or LABCTL_DRIFT_WEBHOOK)"),
        ],
    )
    def test_what_fails_is_a_warning_without_the_url(
        self, status: int, url: str, message: str, hook: tuple[str, type[Hook]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        hook[1].status = status
        monkeypatch.setenv(WEBHOOK_VARIABLE, url.format(port=free_port()) or hook[0])
        (warning,) = tell(self.REPORT, DriftSettings(), nobody).warnings
        assert warning.startswith(message)
        assert "T0P-SECRET" not in warning

    def test_one_that_is_silent_is_not_waited_for(self, hook: tuple[str, type[Hook]], monkeypatch: pytest.MonkeyPatch) -> None:
        hook[1].silent = threading.Event()
        monkeypatch.setattr("labctl.adapters.webhook.READ_TIMEOUT_S", 0.2)
        monkeypatch.setenv(WEBHOOK_VARIABLE, hook[0])
        (warning,) = tell(self.REPORT, DriftSettings(), nobody).warnings
        assert warning == f"webhook at {ADDRESS}: no answer within 0 s."
