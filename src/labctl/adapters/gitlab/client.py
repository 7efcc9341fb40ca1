"""A GitLab as labctl uses it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from labctl.adapters.gitlab._connection import Answer, connected, json_object
from labctl.adapters.gitlab._errors import Forbidden, NotThere, Refused, Unready, explained
from labctl.model.errors import LabError, UserError
from labctl.model.secret import Secret

TIMEOUT_S = 15.0
TELL_EVERY_S = 10.0


@dataclass(frozen=True, slots=True)
class Runner:
    """A runner as GitLab knows it.

    Attributes:
        id: Its number.
        description: What it is called in GitLab.
        status: `online`, `offline`, `stale` or `never_contacted`.
        paused: It gets no jobs.
        tags: By which jobs choose it; empty where only a list of runners was asked for.
        run_untagged: It takes jobs without tags too.
    """

    id: int
    description: str
    status: str
    paused: bool
    tags: tuple[str, ...] = ()
    run_untagged: bool = True


@dataclass(frozen=True, slots=True)
class NewRunner:
    """A runner that was just made. Its token is shown this once."""

    id: int
    token: Secret


@dataclass(frozen=True, slots=True)
class Project:
    """A project as GitLab knows it.

    Attributes:
        id: Its number.
        path: Its full path, as `lab/apps`.
        registry: Its container registry is on.
    """

    id: int
    path: str
    registry: bool


@dataclass(frozen=True, slots=True)
class DeployToken:
    """A deploy token of a project: a login that is no user's. Its value is not shown again.

    Attributes:
        id: Its number.
        name: What people call it; several may have the same.
        username: What stands before the token in a login.
        active: It is neither revoked nor expired.
        scopes: What it is good for, as `read_registry`.
    """

    id: int
    name: str
    username: str
    active: bool
    scopes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NewDeployToken:
    """A deploy token that was just made. Its value is shown this once."""

    id: int
    username: str
    token: Secret


@dataclass(frozen=True, slots=True)
class Issue:
    """An issue of a project.

    Attributes:
        number: Within its project (`iid`).
        title: In a line.
        description: Markdown.
        open: Nobody closed it.
        labels: Sorted by name.
    """

    number: int
    title: str
    description: str
    open: bool
    labels: tuple[str, ...] = ()


class GitLab:
    """A connection to one GitLab.

    Every method raises LabErrors: `Refused` when the token is not accepted, `Forbidden` when it lacks the right, `Unready` when
    GitLab cannot be reached or is starting, `UserError` when something else answers. Each names the URL and what to do.

    Args:
        url: `http://host` or `https://host:port`, without a path.
        token: An administrator's personal access token.
        ca_file: PEM of the authority that signed its certificate; None for the system's.
        timeout_s: How long to wait for an answer.
    """

    def __init__(self, url: str, token: Secret, ca_file: Path | None = None, timeout_s: float = TIMEOUT_S) -> None:
        self.url = url
        self._client = connected(url, token, ca_file, timeout_s)

    def close(self) -> None:
        """Closes the connection."""
        self._client.session.close()

    # --- its life

    def wait_ready(
        self,
        timeout_s: float,
        say: Callable[[str], None] = lambda _text: None,
        between: Callable[[LabError], None] = lambda _error: None,
        poll_s: float = 2.0,
    ) -> Answer:
        """Waits until GitLab serves its API and knows the token; returns its settings, which took the first answer.

        `/-/readiness` would not do: GitLab shows it to the machine itself only.

        Args:
            timeout_s: For how long.
            say: Gets a line every ten seconds of waiting.
            between: Called with the reason after each try in vain; what it raises ends the wait.
            poll_s: Pause between tries.

        Raises:
            LabError: The last reason, once the time is over; at once where waiting would not help.
        """
        began = told = time.monotonic()
        while True:
            try:
                return self.settings()
            except (Unready, Refused) as error:
                waited = time.monotonic() - began
                if waited >= timeout_s:
                    error.message = f"{error.message}, for {waited:.0f} s"
                    raise
                between(error)
                if time.monotonic() - told >= TELL_EVERY_S:
                    told = time.monotonic()
                    say(f"waiting for GitLab, {waited:.0f} s: {error.message}")
            time.sleep(poll_s)

    def settings(self) -> Answer:
        """The instance's settings."""
        return self._get("/application/settings", "read GitLab's settings")

    def change_settings(self, values: Mapping[str, Any]) -> None:
        """Changes settings of the instance."""
        with explained(self.url, "change GitLab's settings"):
            self._client.http_put("/application/settings", post_data=dict(values))

    # --- runners

    def create_runner(self, description: str, tags: Sequence[str], *, run_untagged: bool) -> NewRunner:
        """Makes a runner for the whole instance. Keep its token at once: GitLab does not show it again."""
        fields = {
            "runner_type": "instance_type",
            "description": description,
            "tag_list": ",".join(tags),
            "run_untagged": run_untagged,
        }
        with explained(self.url, "make a runner"):
            found = self._client.http_post("/user/runners", post_data=fields)
        made = json_object(self.url, found)
        return NewRunner(int(made["id"]), Secret(str(made["token"])))

    def runner_alive(self, token: Secret) -> int | None:
        """The number of the runner whose token it is; None where GitLab knows none."""
        try:
            with explained(self.url, "check the runner's token"):
                found = self._client.http_post("/runners/verify", post_data={"token": token.reveal()})
        except Forbidden:
            return None
        return int(json_object(self.url, found)["id"])

    def runner(self, number: int) -> Runner:
        """One runner.

        Raises:
            NotThere: There is none with this number.
        """
        return _runner(self._get(f"/runners/{number}", f"read runner {number}"))

    def find_runners(self, description: str) -> tuple[Runner, ...]:
        """The instance's runners with exactly this description, the newest first."""
        with explained(self.url, "list the runners"):
            found = self._client.http_list("/runners/all", query_data={"type": "instance_type"}, get_all=True)
        return tuple(_runner(row) for row in found if row["description"] == description)

    def change_runner(self, number: int, tags: Sequence[str], *, run_untagged: bool) -> None:
        """Sets by which jobs choose a runner, and lets it work."""
        fields = {"tag_list": ",".join(tags), "run_untagged": run_untagged, "paused": False}
        with explained(self.url, f"change runner {number}"):
            self._client.http_put(f"/runners/{number}", post_data=fields)

    def delete_runner(self, number: int) -> None:
        """Removes a runner."""
        with explained(self.url, f"remove runner {number}"):
            self._client.http_delete(f"/runners/{number}")

    # --- projects

    def project(self, path: str) -> Project:
        """A project by its full path, in lower case.

        Raises:
            NotThere: There is none.
            UserError: It was moved, and GitLab answers for where it is now.
        """
        found = _project(self._get(f"/projects/{_coded(path)}", f"read project {path}"))
        if found.path.lower() != path:
            raise UserError(
                f"project {path} was moved to {found.path}",
                where=self.url,
                hint=f"Name that one in lab.yaml, or make a new project {path} in GitLab.",
            )
        return found

    def create_project(self, path: str) -> Project:
        """Makes a private project, and those groups of its path that are not there, private too; the others stay as they are.

        Args:
            path: Its full path, in lower case: at least one group, and its name.

        Raises:
            Invalid: GitLab does not make the project, or a group, of this name.
        """
        *groups, name = path.split("/")
        parent: int | None = None
        for depth in range(len(groups)):
            parent = self._group("/".join(groups[: depth + 1]), parent)
        fields = {"name": name, "path": name, "namespace_id": parent, "visibility": "private"}
        with explained(self.url, f"make project {path}"):
            found = self._client.http_post("/projects", post_data=fields)
        return _project(json_object(self.url, found))

    def _group(self, path: str, parent: int | None) -> int:
        """The number of a group, which is made where it is not there."""
        try:
            found = self._get(f"/groups/{_coded(path)}", f"read group {path}", with_projects=False)
        except NotThere:
            found = {}
        # A path of digits alone is taken for a number, that of some other group.
        if found.get("full_path", "").lower() == path:
            return int(found["id"])
        name = path.rpartition("/")[2]
        fields = {"name": name, "path": name, "visibility": "private"} | ({"parent_id": parent} if parent else {})
        with explained(self.url, f"make group {path}"):
            made = self._client.http_post("/groups", post_data=fields)
        return int(json_object(self.url, made)["id"])

    # --- deploy tokens

    def deploy_tokens(self, project: int, name: str) -> tuple[DeployToken, ...]:
        """The deploy tokens of a project with exactly this name, those that are over too."""
        with explained(self.url, f"list the deploy tokens of project {project}"):
            found = self._client.http_list(f"/projects/{project}/deploy_tokens", get_all=True)
        return tuple(_deploy_token(row) for row in found if row["name"] == name)

    def create_deploy_token(self, project: int, name: str, username: str, scopes: Sequence[str]) -> NewDeployToken:
        """Makes a deploy token that never expires. Keep its value at once: GitLab does not show it again."""
        fields = {"name": name, "username": username, "scopes": list(scopes)}
        with explained(self.url, f"make a deploy token for project {project}"):
            found = self._client.http_post(f"/projects/{project}/deploy_tokens", post_data=fields)
        made = json_object(self.url, found)
        return NewDeployToken(int(made["id"]), str(made["username"]), Secret(str(made["token"])))

    def revoke_deploy_token(self, project: int, number: int) -> None:
        """Ends a deploy token; GitLab then lists it no more."""
        with explained(self.url, f"revoke deploy token {number}"):
            self._client.http_delete(f"/projects/{project}/deploy_tokens/{number}")

    # --- issues

    def issues(self, project: str, label: str) -> tuple[Issue, ...]:
        """All issues of a project with a label, closed ones too, the oldest first.

        Args:
            project: Its full path.
            label: The label's name.

        Raises:
            NotThere: There is no such project, or its issues are off.
        """
        query = {"labels": label, "state": "all", "order_by": "created_at", "sort": "asc", "per_page": 100}
        with explained(self.url, f"list the issues of project {project}"):
            found = self._client.http_list(f"/projects/{_coded(project)}/issues", query_data=query, get_all=True)
        return tuple(sorted((_issue(row) for row in found), key=lambda issue: issue.number))

    def create_issue(self, project: str, title: str, description: str, labels: Sequence[str]) -> Issue:
        """Makes an issue; labels that the project lacks are made with it."""
        fields = {"title": title, "description": description, "labels": ",".join(labels)}
        with explained(self.url, f"make an issue in project {project}"):
            found = self._client.http_post(f"/projects/{_coded(project)}/issues", post_data=fields)
        return _issue(json_object(self.url, found))

    def change_issue(self, project: str, number: int, *, description: str = "", state: str = "") -> Issue:
        """Changes an issue.

        Args:
            project: Its project's full path.
            number: Within the project.
            description: The new one; "" leaves it.
            state: `close` or `reopen`; "" leaves it.
        """
        fields = {"description": description, "state_event": state}
        with explained(self.url, f"change issue {number} of project {project}"):
            path = f"/projects/{_coded(project)}/issues/{number}"
            found = self._client.http_put(path, post_data={name: value for name, value in fields.items() if value})
        return _issue(json_object(self.url, found))

    def add_note(self, project: str, number: int, text: str) -> None:
        """Writes a note below an issue."""
        with explained(self.url, f"write a note to issue {number} of project {project}"):
            self._client.http_post(f"/projects/{_coded(project)}/issues/{number}/notes", post_data={"body": text})

    # --- requests

    def _get(self, path: str, what: str, **query: Any) -> Answer:
        with explained(self.url, what):
            found = self._client.http_get(path, query_data=query)
        return json_object(self.url, found)


def _coded(path: str) -> str:
    return quote(path, safe="")


def _project(row: Mapping[str, Any]) -> Project:
    return Project(int(row["id"]), str(row["path_with_namespace"]), row["container_registry_access_level"] != "disabled")


def _deploy_token(row: Mapping[str, Any]) -> DeployToken:
    return DeployToken(
        id=int(row["id"]),
        name=str(row["name"]),
        username=str(row["username"]),
        active=not (row["revoked"] or row["expired"]),
        scopes=tuple(row["scopes"]),
    )


def _issue(row: Mapping[str, Any]) -> Issue:
    return Issue(
        number=int(row["iid"]),
        title=str(row["title"]),
        description=str(row["description"] or ""),
        open=row["state"] == "opened",
        labels=tuple(sorted(row["labels"])),
    )


def _runner(row: Mapping[str, Any]) -> Runner:
    return Runner(
        id=int(row["id"]),
        description=str(row["description"] or ""),
        status=str(row["status"]),
        paused=bool(row["paused"]),
        tags=tuple(sorted(row.get("tag_list") or ())),
        run_untagged=bool(row.get("run_untagged", True)),
    )
