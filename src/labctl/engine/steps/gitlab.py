"""Platform's GitLab: it serves, is set as it should be, has a runner that takes several jobs at once, and a registry for apps.

Each step checks first. A second run asks GitLab three times, five times where the lab has apps, and the guest thrice, and changes
nothing. `up` may be killed anywhere: a runner is made before its token is in the Vault, so one whose token was lost on the way is
known by never having been heard of; a deploy token, by a username that is not the Vault's.
"""

from __future__ import annotations

import secrets
import tomllib
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from labctl.adapters.gitlab import GitLab, Invalid, NotThere, Project, Refused
from labctl.adapters.vault import Absent, Vault
from labctl.engine.guestunits import unit_state
from labctl.engine.steps.identity import hand_identity
from labctl.model.catalogue import GITLAB_REGISTRY, GITLAB_ROOT, GITLAB_RUNNER
from labctl.model.errors import AdapterError, LabError, UserError
from labctl.model.guestfiles import GITLAB_SECRETS_FILE, RUNNER_TOKEN_FILE
from labctl.model.secret import Secret
from labctl.model.units import UnitState

if TYPE_CHECKING:
    from labctl.adapters.proxmox import Proxmox
    from labctl.engine.labrun import LabRun
    from labctl.model.contracts import GuestOutput, PlatformContract
    from labctl.model.lab import GuestSpec, Lab, Runner

LAYER = "platform"
FIRST_BOOT_S = {"sandbox": 300.0, "proxmox": 2700.0}
"""How long GitLab may take: its first configuration makes a database and compiles nothing, yet takes minutes on a small host."""
REGISTER_S = 300.0
POLL_S = 1.0
RAILS_S = 300.0

SETTINGS = {"signup_enabled": False, "version_check_enabled": False, "usage_ping_enabled": False}
"""What the guest's own script sets as well; here it is mended where somebody changed it."""

REGISTRY_LOGIN = "labctl"
"""How GitLab lists the deploy token. Those of this name in the apps' project are labctl's own; all others are let be."""
REGISTRY_SCOPES = ("read_registry", "write_registry")

CONFIGURE_UNIT = "lab-gitlab-configure.service"
REGISTER_UNIT = "lab-runner-register.service"
RUNNER_UNIT = "gitlab-runner.service"
RUNNER_CONFIG = "/etc/gitlab-runner/config.toml"
RUNNER_ENVIRONMENT = "/etc/lab/runner.env"
SETTINGS_SCRIPT = "/usr/local/lib/lab/gitlab-settings.rb"


@dataclass(frozen=True, slots=True)
class GitlabGuest:
    """Guest `gitlab`, and how to reach it.

    Attributes:
        hypervisor: Whose agent calls reach the guest.
        guest: The guest as described.
        output: The guest as its layer published it.
        say: Where progress goes.
        waiting: Entered around waits, which may be cut off by a signal.
    """

    hypervisor: Proxmox
    guest: GuestSpec
    output: GuestOutput
    say: Callable[[str], None]
    waiting: Callable[[], AbstractContextManager[None]] = nullcontext

    def unit(self, name: str) -> UnitState:
        """How a unit is."""
        return unit_state(self.hypervisor, self.output.vmid, name)

    def require_not_failed(self, name: str) -> UnitState:
        """A unit's state.

        Raises:
            AdapterError: It failed; the last lines of its log are told.
        """
        found = self.unit(name)
        if found.state == "failed":
            # What the unit's own processes said, without systemd's words about them.
            words = ["journalctl", f"_SYSTEMD_UNIT={name}", "--lines", "5", "--no-pager", "--output", "cat"]
            lines = self.hypervisor.exec(self.output.vmid, words).out.strip().splitlines()
            said = "".join(f"  {line[:160]}\n" for line in lines)
            raise AdapterError(
                f"{name} failed",
                where=f"guest {self.guest.name}",
                hint=f"{said}Look at `journalctl -u {name}` there, mend it, then run `labctl up` again: it starts the unit anew.",
            )
        return found


def gitlab_steps(run: LabRun, contract: PlatformContract) -> list[str]:
    """Runs the steps; returns what they changed, a line each."""
    assert run.session is not None

    def say(text: str) -> None:
        run.say(text, LAYER, kind="step")

    guest = GitlabGuest(run.hypervisor, run.lab.guest("gitlab"), contract.guests["gitlab"], say, waiting=run.interrupts.raising)
    vault = run.session.vault

    def refresh() -> None:
        hand_identity(run, LAYER, guest.guest.name, guest.output, anew=True)

    _version, root = vault.read(GITLAB_ROOT)
    gitlab = GitLab(api_url(run.lab, contract), root["api_token"])
    try:
        run.say("waiting for GitLab", LAYER, kind="progress")
        settings, changes = ensure_ready(guest, gitlab, FIRST_BOOT_S[run.lab.target.kind])
        run.interrupts.check()
        changes += ensure_settings(gitlab, settings, say)
        token, made = ensure_runner(gitlab, vault, run.lab.platform.gitlab.runner, runner_name(guest.guest), say)
        changes += made
        run.interrupts.check()
        changes += ensure_registered(guest, token, run.lab.platform.gitlab.runner.concurrent, refresh)
        if run.lab.app_specs():
            run.interrupts.check()
            changes += ensure_registry(gitlab, vault, run.lab.apps.project, say)
    finally:
        gitlab.close()
    return changes


def api_url(lab: Lab, contract: PlatformContract) -> str:
    """Where labctl reaches GitLab: its URL, with the guest's address in place of a name that is the guest's own.

    This machine need not know the lab's names. With https the name stays: the certificate is for it.
    """
    guest, url = lab.guest("gitlab"), urlsplit(contract.gitlab_url)
    if url.scheme == "http" and url.hostname in (guest.fqdn, guest.name):
        return f"http://{contract.guests['gitlab'].address}" + (f":{url.port}" if url.port else "")
    return contract.gitlab_url


def runner_name(guest: GuestSpec) -> str:
    """How GitLab lists the guest's runner."""
    return f"{guest.name} (labctl)"


def ensure_ready(guest: GitlabGuest, gitlab: GitLab, timeout_s: float, poll_s: float = 2.0) -> tuple[dict[str, Any], list[str]]:
    """Waits until GitLab serves and knows labctl's token, and makes the token anew where it does not; gives GitLab's settings.

    Raises:
        LabError: It does not come up, or its configuration failed in the guest.
    """
    changes: list[str] = []

    def between(error: LabError) -> None:
        found = guest.require_not_failed(CONFIGURE_UNIT)
        if isinstance(error, Refused) and not changes and found.state == "inactive" and _configured(guest):
            # Its configuration is done, so the token expired or somebody revoked it.
            guest.say("making labctl's token in GitLab anew")
            words = ["gitlab-rails", "runner", SETTINGS_SCRIPT]
            guest.hypervisor.exec(guest.output.vmid, words, timeout_s=RAILS_S).check("gitlab-rails runner")
            changes.append("labctl's token in GitLab made anew")

    if guest.unit(CONFIGURE_UNIT).state == "failed":
        # An earlier run told of it; meanwhile somebody may have mended the reason.
        guest.hypervisor.exec(guest.output.vmid, ["systemctl", "start", "--no-block", CONFIGURE_UNIT])
    with guest.waiting():
        return gitlab.wait_ready(timeout_s, guest.say, between, poll_s), changes


def _configured(guest: GitlabGuest) -> bool:
    words = ["test", "-s", "/var/lib/lab/gitlab.sha256", "-a", "-s", GITLAB_SECRETS_FILE]
    return guest.hypervisor.exec(guest.output.vmid, words).exit_code == 0


def ensure_settings(gitlab: GitLab, found: Mapping[str, Any], say: Callable[[str], None]) -> list[str]:
    """Sets what differs from `SETTINGS`; returns a line each."""
    differing = {name: value for name, value in SETTINGS.items() if found.get(name) != value}
    if not differing:
        return []
    say(f"setting {', '.join(differing)} in GitLab")
    gitlab.change_settings(differing)
    return [f"GitLab's setting {name} is {str(value).lower()} again" for name, value in differing.items()]


def ensure_runner(
    gitlab: GitLab, vault: Vault, wanted: Runner, name: str, say: Callable[[str], None]
) -> tuple[Secret, list[str]]:
    """A runner that GitLab knows and whose token the Vault has; gives the token.

    Raises:
        LabError: GitLab or the Vault refused.
    """
    version, token = _kept_token(vault)
    number = gitlab.runner_alive(token) if token else None
    if token and number is not None:
        found = gitlab.runner(number)
        tags = tuple(sorted(wanted.tags))
        if (found.tags, found.run_untagged, found.paused) == (tags, wanted.run_untagged, False):
            return token, []
        say(f"setting the tags of runner {number}")
        gitlab.change_runner(number, tags, run_untagged=wanted.run_untagged)
        return token, [f"runner {number} has the tags {', '.join(tags)}"]
    say("making a runner in GitLab")
    made = gitlab.create_runner(name, wanted.tags, run_untagged=wanted.run_untagged)
    try:
        vault.write(GITLAB_RUNNER, {"token": made.token}, cas=version)
    except LabError:
        gitlab.delete_runner(made.id)
        raise
    changes = [f"runner {made.id} made in GitLab"]
    for other in gitlab.find_runners(name):
        if other.id != made.id and other.status == "never_contacted":
            gitlab.delete_runner(other.id)
            changes.append(f"runner {other.id}, whose token was lost, removed")
    return made.token, changes


def _kept_token(vault: Vault) -> tuple[int, Secret | None]:
    try:
        version, fields = vault.read(GITLAB_RUNNER)
    except Absent:
        return 0, None
    return version, fields.get("token")


def ensure_registered(
    guest: GitlabGuest,
    token: Secret,
    concurrent: int,
    refresh: Callable[[], None],
    *,
    timeout_s: float = REGISTER_S,
    poll_s: float = POLL_S,
) -> list[str]:
    """Waits until the guest's runner has this token, takes `concurrent` jobs at once and runs; returns what was done.

    Args:
        guest: The guest.
        token: The runner's token, as the Vault has it.
        concurrent: Jobs at once.
        refresh: Makes the guest fetch its secrets from the Vault now. By itself it looks once a minute.
        timeout_s: For how long to wait.
        poll_s: Pause between looks.

    Raises:
        AdapterError: It was not registered in time, or the guest's unit failed.
    """
    if _registered(guest, token, concurrent):
        if guest.unit(RUNNER_UNIT).active:
            return []
        guest.say("starting the runner")
        guest.hypervisor.exec(guest.output.vmid, ["systemctl", "start", RUNNER_UNIT]).check(f"systemctl start {RUNNER_UNIT}")
        return ["the runner started"]
    guest.say("registering the runner")
    vmid, hypervisor = guest.output.vmid, guest.hypervisor
    # The guest was born with another number, if lab.yaml changed since.
    setting = f's/^LAB_RUNNER_CONCURRENT=.*/LAB_RUNNER_CONCURRENT="{concurrent}"/'
    hypervisor.exec(vmid, ["sed", "-i", setting, RUNNER_ENVIRONMENT]).check(f"edit {RUNNER_ENVIRONMENT}")
    if hypervisor.file_read(vmid, RUNNER_TOKEN_FILE, missing_ok=True) != token.reveal().encode():
        refresh()
    hypervisor.exec(vmid, ["systemctl", "start", "--no-block", REGISTER_UNIT])
    limit = monotonic() + timeout_s
    with guest.waiting():
        while not _registered(guest, token, concurrent) or guest.unit(REGISTER_UNIT).state == "activating":
            guest.require_not_failed(REGISTER_UNIT)
            if monotonic() > limit:
                raise AdapterError(
                    f"its runner was not registered in {timeout_s:.0f} s",
                    where=f"guest {guest.guest.name}",
                    hint=f"Look at `journalctl -u {REGISTER_UNIT}` in the guest, then run `labctl up` again.",
                )
            sleep(poll_s)
    guest.require_not_failed(REGISTER_UNIT)
    return [f"the runner registered, {concurrent} jobs at once"]


def _registered(guest: GitlabGuest, token: Secret, concurrent: int) -> bool:
    content = guest.hypervisor.file_read(guest.output.vmid, RUNNER_CONFIG, missing_ok=True)
    try:
        config = tomllib.loads((content or b"").decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        return False  # being written
    tokens = [runner.get("token") for runner in config.get("runners", [])]
    return token.reveal() in tokens and config.get("concurrent") == concurrent


def ensure_registry(gitlab: GitLab, vault: Vault, path: str, say: Callable[[str], None]) -> list[str]:
    """A project with a registry, and a login to it that GitLab knows and the Vault has; returns what was done.

    Args:
        gitlab: Where the project is.
        vault: Where the login is kept.
        path: The project's full path. One that is there is taken as it is.
        say: Where progress goes.

    Raises:
        LabError: GitLab or the Vault refused, or the project's registry is off.
    """
    project, changes = _ensure_project(gitlab, path, say)
    version, username = _kept_login(vault)
    own = [token for token in gitlab.deploy_tokens(project.id, REGISTRY_LOGIN) if token.active]
    kept = next((token.id for token in own if token.username == username and set(REGISTRY_SCOPES) <= set(token.scopes)), None)
    if kept is None:
        say(f"making credentials for the registry of {path}")
        # By chance: usernames of GitLab's own are numbers, which begin anew with its data, and might be that of a lost token.
        username = f"labctl-{secrets.token_hex(4)}"
        made = gitlab.create_deploy_token(project.id, REGISTRY_LOGIN, username, REGISTRY_SCOPES)
        try:
            vault.write(GITLAB_REGISTRY, {"username": Secret(made.username), "token": made.token}, cas=version)
        except LabError:
            gitlab.revoke_deploy_token(project.id, made.id)
            raise
        kept = made.id
        changes.append(f"registry credentials of {path} made")
    for other in own:
        if other.id != kept:
            gitlab.revoke_deploy_token(project.id, other.id)
            changes.append(f"deploy token {other.id} of {path}, which the Vault does not have, revoked")
    return changes


def _ensure_project(gitlab: GitLab, path: str, say: Callable[[str], None]) -> tuple[Project, list[str]]:
    changes = []
    try:
        found = gitlab.project(path)
    except NotThere:
        say(f"making project {path} in GitLab")
        try:
            found = gitlab.create_project(path)
        except Invalid as error:
            error.hint = "Choose another apps.project in lab.yaml, or make this one in GitLab: labctl takes a project as it is."
            raise
        changes.append(f"project {path} made in GitLab")
    if not found.registry:
        raise UserError(
            f"the container registry of project {path} is off",
            where=gitlab.url,
            hint="Turn it on in GitLab (the project's Settings > General > Visibility, Container registry), or choose another"
            " apps.project in lab.yaml; then run `labctl up` again.",
        )
    return found, changes


def _kept_login(vault: Vault) -> tuple[int, str | None]:
    try:
        version, fields = vault.read(GITLAB_REGISTRY)
    except Absent:
        return 0, None
    return version, fields["username"].reveal() if {"username", "token"} <= set(fields) else None
