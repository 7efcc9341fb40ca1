"""Tells of a check: an issue in GitLab for each thing that drifted, and a webhook. Nothing that fails here fails the check."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from labctl.adapters import webhook
from labctl.adapters.gitlab import GitLab, Unready
from labctl.adapters.vault import Denied
from labctl.engine.steps.logins import GITLAB_TOKEN_VARIABLE
from labctl.model.catalogue import GITLAB_ROOT
from labctl.model.contracts import PlatformContract, check_outputs
from labctl.model.drift.formats.json import as_plain_document
from labctl.model.drift.notices import LABEL, Issue, Notice, notices
from labctl.model.driftsettings import WEBHOOK_VARIABLE, webhook_of, webhook_problem
from labctl.model.errors import AdapterError, LabError
from labctl.model.secret import Secret

if TYPE_CHECKING:
    from labctl.engine.labrun import LabRun
    from labctl.model.drift.report import DriftReport
    from labctl.model.driftsettings import DriftSettings


def tell(report: DriftReport, settings: DriftSettings, gitlab: Callable[[], GitLab]) -> DriftReport:
    """Tells whom `drift:` in lab.yaml names; the report comes back with a warning for each who could not be told.

    Args:
        report: The check.
        settings: Of lab.yaml.
        gitlab: Connects to the lab's GitLab; called only where a project is named, and may raise LabErrors.
    """
    if settings.gitlab_project:
        report = tell_gitlab(report, settings.gitlab_project, gitlab)
    url = webhook_of(settings, os.environ.get(WEBHOOK_VARIABLE))
    return tell_webhook(report, url) if url else report


def lab_gitlab(run: LabRun) -> GitLab:
    """The lab's GitLab, with the token of the environment, else with labctl's own, which the nightly login may not read.

    Raises:
        LabError: The Vault is not open or does not give the token, or platform is not up.
    """
    from labctl.engine.steps.gitlab import api_url

    if run.session is None:
        raise run.session_problem or AdapterError("the Vault is not open", hint="Run `labctl up --layer foundation`.")
    outputs = next((stack.state.outputs for stack in run.stacks if stack.layer == PlatformContract.layer), None)
    if not outputs:
        raise AdapterError("GitLab is not up", where="platform", hint="Run `labctl up --layer platform`.")
    contract = check_outputs(PlatformContract.layer, outputs)
    assert isinstance(contract, PlatformContract)
    url = api_url(run.lab, contract)
    if token := os.environ.get(GITLAB_TOKEN_VARIABLE):
        return GitLab(url, Secret(token))
    try:
        _version, root = run.session.vault.read(GITLAB_ROOT)
    except Denied as error:
        error.hint = f"Set {GITLAB_TOKEN_VARIABLE} to a token of the project, scope api: this login may not read labctl's own."
        raise
    return GitLab(url, root["api_token"])


def tell_gitlab(report: DriftReport, project: str, connect: Callable[[], GitLab]) -> DriftReport:
    """Opens, updates, reopens and closes the issues of a project."""
    try:
        gitlab = connect()
    except LabError as error:
        return report.with_warning(_warning("issues", error))
    try:
        found = gitlab.issues(project, LABEL)
        todo = notices(report, [Issue(issue.number, issue.open, issue.description) for issue in found])
        failed = _carry_out(gitlab, project, todo.todo)
    except LabError as error:
        return report.with_warning(_warning("issues", error))
    finally:
        gitlab.close()
    for text in failed:
        report = report.with_warning(text)
    if todo.left_out:
        more = (
            f"{todo.left_out} more finding{' has' if todo.left_out == 1 else 's have'} no issue yet: a check opens a few at most"
        )
        report = report.with_warning(more)
    return report


def _carry_out(gitlab: GitLab, project: str, todo: Sequence[Notice]) -> list[str]:
    """Does each; what GitLab refuses is told, and the next one is tried. When GitLab is gone, the rest waits for the next check.

    Returns:
        A warning for each that failed.
    """
    failed: list[str] = []
    for number, notice in enumerate(todo):
        try:
            _do(gitlab, project, notice)
        except Unready as error:
            waiting = len(todo) - number
            return [*failed, f"{_warning('issues', error)} {waiting} of {len(todo)} are left for the next check."]
        except LabError as error:
            failed.append(_warning("issues", error))
    return failed


def _do(gitlab: GitLab, project: str, notice: Notice) -> None:
    if notice.number is None:
        gitlab.create_issue(project, notice.title, notice.description, (LABEL,))
        return
    # What was cut off between the two is done again by the next check: a note twice is better than one never.
    if notice.note:
        gitlab.add_note(project, notice.number, notice.note)
    state = notice.action if notice.action in ("close", "reopen") else ""
    gitlab.change_issue(project, notice.number, description=notice.description, state=state)


def tell_webhook(report: DriftReport, url: Secret) -> DriftReport:
    """Posts the JSON report."""
    if problem := webhook_problem(url.reveal()):
        return report.with_warning(f"webhook: {problem} (drift.webhook, or {WEBHOOK_VARIABLE})")
    try:
        webhook.post(url, as_plain_document(report))
    except LabError as error:
        return report.with_warning(_warning("", error))
    return report


def _warning(what: str, error: LabError) -> str:
    return f"{what}: {error.told}" if what else error.told
