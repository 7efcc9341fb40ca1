"""Puts a review into its merge request as one note, which is written anew in its place."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from labctl.engine.steps.logins import GITLAB_TOKEN_VARIABLE
from labctl.model.errors import LabError, UserError
from labctl.model.review import Review
from labctl.model.reviewnote import MOST_CHARACTERS, marker, note
from labctl.model.secret import Secret

BASE_VARIABLE = "CI_MERGE_REQUEST_DIFF_BASE_SHA"
_TOKEN_HINT = f"{GITLAB_TOKEN_VARIABLE} must be a project access token with scope api and role Reporter or more; docs/review.md."
_OPEN = frozenset({"opened", "locked"})


@dataclass(frozen=True, slots=True)
class Place:
    """A merge request, as GitLab tells its jobs.

    Attributes:
        url: GitLab's address.
        project: The project's number, or its path.
        iid: The merge request's number in its project.
        ca_file: The authority that signed GitLab's certificate; None for the system's.
        job: The job's page, "" where there is none.
    """

    url: str
    project: str
    iid: int
    ca_file: Path | None = None
    job: str = ""


def place(environment: Mapping[str, str] = os.environ) -> Place | None:
    """The merge request that this job is for; None outside of a merge request's pipeline.

    Source of the names: GitLab, "Predefined CI/CD variables reference".

    Raises:
        UserError: The variables contradict each other.
    """
    iid = environment.get("CI_MERGE_REQUEST_IID", "")
    if not iid:
        return None
    url = environment.get("CI_SERVER_URL") or environment.get("CI_API_V4_URL", "").removesuffix("/api/v4")
    # A fork's pipeline runs in the fork; the merge request is the target's.
    project = (
        environment.get("CI_MERGE_REQUEST_PROJECT_ID") or environment.get("CI_PROJECT_ID") or environment.get("CI_PROJECT_PATH")
    )
    if not iid.isdigit() or not url or not project:
        raise UserError(
            "CI_MERGE_REQUEST_IID is set, but not all that belongs to it",
            hint="CI_SERVER_URL (or CI_API_V4_URL) and CI_PROJECT_ID (or CI_PROJECT_PATH) name GitLab and project.",
        )
    ca_file = Path(environment.get("CI_SERVER_TLS_CA_FILE", ""))
    return Place(url.rstrip("/"), project, int(iid), ca_file if ca_file.is_file() else None, environment.get("CI_JOB_URL", ""))


def post(review: Review, where: Place, token: Secret, *, limit: int = MOST_CHARACTERS) -> str:
    """Writes the note, or writes it anew; returns a sentence about what was done.

    A merge request that is closed or merged gets none.

    Raises:
        LabError: GitLab does not answer, or refuses.
    """
    from labctl.adapters.gitlab import Forbidden, MergeRequests, NotThere, Refused

    requests = MergeRequests(where.url, token, where.project, where.ca_file)
    try:
        found = requests.merge_request(where.iid)
        if found.state not in _OPEN:
            return f"Merge request !{where.iid} is {found.state}: it gets no note."
        text = note(review, limit=min(limit, MOST_CHARACTERS), link=where.job)
        mine = requests.me()
        own = [one for one in requests.notes(where.iid) if one.author == mine and one.body.startswith(marker(review.lab))]
        if not own:
            requests.create_note(where.iid, text)
            return f"Wrote a note to merge request !{where.iid}."
        requests.update_note(where.iid, own[0].id, text)
        return f"Updated the note of merge request !{where.iid}."
    except (Refused, Forbidden, NotThere) as error:
        raise UserError(error.message, where=error.where, hint=_TOKEN_HINT) from error
    finally:
        requests.close()


def base_revision(named: str, environment: Mapping[str, str] = os.environ) -> str:
    """The revision to review against: the named one, else the merge request's.

    Raises:
        UserError: There is neither.
    """
    found = named or environment.get(BASE_VARIABLE, "")
    if not found:
        raise UserError(
            "what is the change to be held against?",
            hint=f"Name a revision: `labctl review --base main`. In a merge request's pipeline, {BASE_VARIABLE} names it.",
        )
    return found


def gitlab_token(environment: Mapping[str, str] = os.environ) -> Secret | None:
    """The token for notes, None where there is none."""
    value = environment.get(GITLAB_TOKEN_VARIABLE, "")
    return Secret(value) if value else None


def posted(review: Review, where: Place, token: Secret, limit: int) -> tuple[str, LabError | None]:
    """As `post`; what fails is returned, because the review stands without its note.

    Returns:
        What was done, and the error; one of them is empty.
    """
    try:
        return post(review, where, token, limit=limit), None
    except LabError as error:
        return "", error
