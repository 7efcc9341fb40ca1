"""The notes of a merge request."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import gitlab

from labctl.adapters.gitlab._connection import connected, json_object
from labctl.adapters.gitlab._errors import explained
from labctl.model.secret import Secret

TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class MergeRequest:
    """A merge request as GitLab knows it.

    Attributes:
        iid: Its number in its project.
        state: `opened`, `closed`, `locked` or `merged`.
        url: Its page.
    """

    iid: int
    state: str
    url: str


@dataclass(frozen=True, slots=True)
class Note:
    """A note of a merge request.

    Attributes:
        id: Its number.
        body: Its Markdown.
        author: The number of who wrote it.
    """

    id: int
    body: str
    author: int


class MergeRequests:
    """The merge requests of one project, with one token.

    Every method raises the LabErrors of `GitLab`.

    Args:
        url: GitLab's address, with its path where it has one.
        token: A project, group or personal access token with scope `api`.
        project: The project's number or full path.
        ca_file: PEM of the authority that signed its certificate; None for the system's.
        timeout_s: How long to wait for an answer.
    """

    def __init__(self, url: str, token: Secret, project: str, ca_file: Path | None = None, timeout_s: float = TIMEOUT_S) -> None:
        self.url = url
        self._client = connected(url, token, ca_file, timeout_s)
        self._path = f"/projects/{gitlab.utils.EncodedId(project)}/merge_requests"

    def close(self) -> None:
        """Closes the connection."""
        self._client.session.close()

    def me(self) -> int:
        """The number of the user whose token it is."""
        with explained(self.url, "ask whose token it is"):
            return int(json_object(self.url, self._client.http_get("/user"))["id"])

    def merge_request(self, iid: int) -> MergeRequest:
        """One merge request.

        Raises:
            NotThere: There is none, or the token does not see it.
        """
        with explained(self.url, f"read merge request !{iid}"):
            row = json_object(self.url, self._client.http_get(f"{self._path}/{iid}"))
        return MergeRequest(int(row["iid"]), str(row["state"]), str(row["web_url"]))

    def notes(self, iid: int) -> tuple[Note, ...]:
        """Its notes that people and tokens wrote, the oldest first; GitLab's own about commits and labels are left out."""
        query = {"sort": "asc", "order_by": "created_at", "per_page": 100}
        with explained(self.url, f"list the notes of merge request !{iid}"):
            rows = self._client.http_list(f"{self._path}/{iid}/notes", query_data=query, get_all=True)
        return tuple(Note(int(r["id"]), str(r["body"]), int(r["author"]["id"])) for r in rows if not r.get("system"))

    def create_note(self, iid: int, body: str) -> int:
        """Writes a note; returns its number."""
        with explained(self.url, f"write a note to merge request !{iid}"):
            return int(json_object(self.url, self._client.http_post(f"{self._path}/{iid}/notes", post_data={"body": body}))["id"])

    def update_note(self, iid: int, number: int, body: str) -> None:
        """Writes a note anew, in its place."""
        with explained(self.url, f"change a note of merge request !{iid}"):
            self._client.http_put(f"{self._path}/{iid}/notes/{number}", post_data={"body": body})
