"""A review's note, by python-gitlab, in the stand-in's merge requests."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gitlab as python_gitlab
import pytest

from labctl.adapters.gitlab import MergeRequests, Unready
from labctl.engine.reviewnote import Place, place, post, posted
from labctl.model.errors import UserError
from labctl.model.review import Change, Review
from labctl.model.reviewnote import MOST_CHARACTERS, marker
from labctl.model.secret import Secret
from tests.gitlabstandin import ROOT_TOKEN, Standin, free_port

pytestmark = pytest.mark.integration

REVIEW = Review("lab", "0" * 40, "1" * 40, Change({}))
TOKEN = Secret(ROOT_TOKEN)


@pytest.fixture
def project(standin: Standin) -> Any:
    return standin.client().projects.create({"name": "lab"})


@pytest.fixture
def merge_request(project: Any) -> Any:
    return project.mergerequests.create({"source_branch": "bigger", "target_branch": "main", "title": "Bigger"})


@pytest.fixture
def where(standin: Standin, merge_request: Any) -> Place:
    return Place(standin.url, "root/lab", merge_request.iid)


def bodies(merge_request: Any) -> list[str]:
    return [note.body for note in merge_request.notes.list(get_all=True, sort="asc")]


def test_one_note_is_made_and_then_written_anew_in_its_place(where: Place, merge_request: Any, standin: Standin) -> None:
    for number in range(120):
        merge_request.notes.create({"body": f"Remark {number}"})
    assert "Wrote a note" in post(REVIEW, where, TOKEN)
    merge_request.notes.create({"body": "Another remark"})
    assert "Updated the note" in post(replace(REVIEW, head="2" * 40), where, TOKEN)
    found = bodies(merge_request)
    assert len(found) == 122
    assert found[120].startswith(marker("lab"))
    assert "222222222222 against 000000000000" in found[120]
    # It outlives a restart of GitLab, and another lab's note is another.
    standin.stop()
    standin.start()
    assert "Wrote a note" in post(replace(REVIEW, lab="other"), where, TOKEN)
    assert "Updated the note" in post(REVIEW, where, TOKEN)
    assert len(bodies(merge_request)) == 123


def test_a_note_that_somebody_else_wrote_with_our_mark_is_left_alone(
    where: Place, merge_request: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    merge_request.notes.create({"body": f"{marker('lab')}\nlooks like it"})
    monkeypatch.setattr(MergeRequests, "me", lambda _self: 7)
    assert "Wrote a note" in post(REVIEW, where, TOKEN)
    assert bodies(merge_request)[0] == f"{marker('lab')}\nlooks like it"


@pytest.mark.parametrize("state", ["close", "merge"])
def test_a_merge_request_that_is_over_gets_no_note(where: Place, merge_request: Any, state: str) -> None:
    if state == "merge":
        merge_request.merge()
    else:
        merge_request.state_event = "close"
        merge_request.save()
    assert "it gets no note" in post(REVIEW, where, TOKEN)
    assert bodies(merge_request) == []


def test_what_is_too_long_for_gitlab_is_cut(where: Place, merge_request: Any) -> None:
    with pytest.raises(python_gitlab.GitlabCreateError, match="too long"):
        merge_request.notes.create({"body": "x" * (MOST_CHARACTERS + 1)})
    long = replace(REVIEW, change=Change({}, gone=tuple(f"stack-{n}" for n in range(20_000))))
    post(long, where, TOKEN, limit=10 * MOST_CHARACTERS)
    (body,) = bodies(merge_request)
    assert len(body) == MOST_CHARACTERS


def test_what_gitlab_refuses_says_which_token_is_wrong(where: Place, standin: Standin) -> None:
    for token, project in ((Secret("glpat-unknown"), "root/lab"), (TOKEN, "root/none")):
        with pytest.raises(UserError) as refused:
            post(REVIEW, replace(where, project=project), token)
        assert "LABCTL_GITLAB_TOKEN" in refused.value.hint


def test_a_gitlab_that_is_down_is_an_answer_no_exception(where: Place) -> None:
    said, error = posted(REVIEW, replace(where, url=f"http://127.93.1.1:{free_port()}"), TOKEN, MOST_CHARACTERS)
    assert said == ""
    assert isinstance(error, Unready)


def test_the_merge_request_is_known_from_the_jobs_variables() -> None:
    job = {"CI_MERGE_REQUEST_IID": "7", "CI_PROJECT_PATH": "lab/lab", "CI_API_V4_URL": "https://gitlab.example.com/git/api/v4"}
    assert place({}) is None
    assert place(job) == Place("https://gitlab.example.com/git", "lab/lab", 7)
    fork = job | {"CI_PROJECT_ID": "9", "CI_MERGE_REQUEST_PROJECT_ID": "3", "CI_SERVER_URL": "https://gitlab.example.com/"}
    assert place(fork) == Place("https://gitlab.example.com", "3", 7)
    with pytest.raises(UserError):
        place({"CI_MERGE_REQUEST_IID": "7"})
