"""labctl's own GitLab adapter and steps against the stand-in."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

import pytest

from labctl.adapters.gitlab import Forbidden, GitLab, NotThere, Refused, Unready
from labctl.adapters.proxmox import ExecResult
from labctl.adapters.vault import Absent, CasMismatch, Vault
from labctl.engine.steps import gitlab as steps
from labctl.engine.steps.gitlab import GitlabGuest, api_url, ensure_ready, ensure_registered, ensure_runner, ensure_settings
from labctl.model.catalogue import GITLAB_RUNNER
from labctl.model.contracts import GuestOutput, PlatformContract
from labctl.model.errors import AdapterError, LabError, UserError
from labctl.model.guestfiles import RUNNER_TOKEN_FILE
from labctl.model.labfile import parse_lab
from labctl.model.secret import Secret
from tests.gitlabstandin import ADDRESS, ROOT_TOKEN, Standin, free_port

pytestmark = pytest.mark.integration

LAB = parse_lab("name: lab\ntarget: {sandbox: {}}\n")
RUNNER = LAB.platform.gitlab.runner
NAME = "gitlab (labctl)"


@pytest.fixture
def gitlab(standin: Standin) -> Iterator[GitLab]:
    found = GitLab(standin.url, Secret(ROOT_TOKEN))
    yield found
    found.close()


def say(_text: str) -> None:
    """Nobody listens."""


class TestAdapter:
    def test_a_runner(self, gitlab: GitLab) -> None:
        made = gitlab.create_runner("gitlab", ("docker", "ubuntu"), run_untagged=False)
        assert made.token.reveal() not in repr(made)
        assert [runner.status for runner in gitlab.find_runners("gitlab")] == ["never_contacted"]
        assert gitlab.runner_alive(made.token) == made.id
        assert gitlab.runner_alive(Secret("glrt-unknown")) is None
        gitlab.change_runner(made.id, ("gpu",), run_untagged=True)
        found = gitlab.runner(made.id)
        assert (found.tags, found.run_untagged, found.paused) == (("gpu",), True, False)
        gitlab.delete_runner(made.id)
        assert gitlab.runner_alive(made.token) is None
        assert gitlab.find_runners("gitlab") == ()
        with pytest.raises(NotThere):
            gitlab.runner(made.id)

    def test_all_pages_of_runners_are_looked_at(self, gitlab: GitLab) -> None:
        first = gitlab.create_runner("wanted", (), run_untagged=True)
        for _ in range(25):
            gitlab.create_runner("other", (), run_untagged=True)
        assert [runner.id for runner in gitlab.find_runners("wanted")] == [first.id]

    def test_a_refused_token(self, standin: Standin) -> None:
        with pytest.raises(Refused, match="refuses labctl's token") as found:
            GitLab(standin.url, Secret("glpat-wrong")).settings()
        assert "labctl up" in found.value.hint
        assert "glpat-wrong" not in str(found.value) + found.value.hint

    def test_a_token_without_the_right(self, standin: Standin) -> None:
        made = (
            standin.client()
            .users.get(1, lazy=True)
            .personal_access_tokens.create({"name": "reader", "scopes": ["read_user"], "expires_at": "2026-12-20"})
        )
        with pytest.raises(Forbidden, match="lacks the right"):
            GitLab(standin.url, Secret(made.token)).settings()

    def test_nobody_there(self) -> None:
        with pytest.raises(Unready, match="connection refused"):
            GitLab(f"http://{ADDRESS}:{free_port()}", Secret("x")).settings()
        with pytest.raises(UserError, match="name is not known"):
            GitLab("http://gitlab.invalid", Secret("x")).settings()

    def test_while_it_boots_it_is_waited_for(self, fresh: Standin) -> None:
        fresh.boot_s = 3.0
        fresh.run("ctl", "reconfigure")
        fresh.start()
        gitlab, reasons = GitLab(fresh.url, Secret(ROOT_TOKEN)), []
        with pytest.raises(Unready, match=r"not ready \(502\)"):
            gitlab.settings()

        def between(error: LabError) -> None:
            reasons.append(type(error))
            if isinstance(error, Refused) and reasons.count(Refused) == 1:
                fresh.run("rails", "runner", str(fresh.root / "usr/local/lib/lab/gitlab-settings.rb"))

        assert gitlab.wait_ready(60, between=between, poll_s=0.2)["signup_enabled"] is False
        assert reasons[0] is Unready
        assert reasons[-1] is Refused

    def test_the_time_over_is_said(self, standin: Standin) -> None:
        with pytest.raises(Refused, match="for 0 s"):
            GitLab(standin.url, Secret("glpat-wrong")).wait_ready(0.1, poll_s=0.05)

    @pytest.mark.parametrize(
        ("status", "kind", "body", "error", "said"),
        [
            (200, "text/html", "<html>log in</html>", UserError, "does not answer as GitLab's API"),
            (200, "application/json", "not json", UserError, "does not answer as GitLab's API"),
            (200, "application/json", "[]", UserError, "does not answer as GitLab's API"),
            (503, "text/html", "<html>secret</html>", Unready, r"not ready \(503\)"),
            (404, "text/html", "<html>", NotThere, "it is not there"),
            (429, "application/json", '{"message": "slow down"}', AdapterError, "429"),
        ],
    )
    def test_what_else_may_answer(self, status: int, kind: str, body: str, error: type[LabError], said: str) -> None:
        with answering(status, kind, body) as url, pytest.raises(error, match=said) as found:
            GitLab(url, Secret("x"), timeout_s=5).settings()
        assert "<html" not in str(found.value)

    def test_a_project_that_was_moved(self) -> None:
        body = {"id": 1, "path_with_namespace": "team/apps", "container_registry_access_level": "enabled"}
        with answering(200, "application/json", json.dumps(body)) as url:
            assert GitLab(url, Secret("x")).project("team/apps").registry
            with pytest.raises(UserError, match=r"lab/apps was moved to team/apps"):
                GitLab(url, Secret("x")).project("lab/apps")


class answering:  # noqa: N801
    """A server that always says the same."""

    def __init__(self, status: int, kind: str, body: str) -> None:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                if status == 429:
                    self.send_header("Retry-After", "0")
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *_args: Any) -> None:
                """Quiet."""

        self.server = http.server.ThreadingHTTPServer((ADDRESS, 0), Handler)

    def __enter__(self) -> str:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return f"http://{ADDRESS}:{self.server.server_port}"

    def __exit__(self, *_reason: object) -> None:
        self.server.shutdown()
        self.server.server_close()


class FakeVault:
    """One secret."""

    def __init__(self, token: str = "") -> None:
        self.version, self.token = (1, Secret(token)) if token else (0, None)
        self.refuses = False

    def read(self, _path: str) -> tuple[int, dict[str, Secret]]:
        if self.token is None:
            raise Absent("there is no secret")
        return self.version, {"token": self.token}

    def write(self, path: str, data: Mapping[str, Secret], cas: int) -> int:
        assert path == GITLAB_RUNNER
        if self.refuses or cas != self.version:
            raise CasMismatch("the secret has another version than expected")
        self.version, self.token = cas + 1, data["token"]
        return self.version


class TestRunnerStep:
    def step(self, gitlab: GitLab, vault: FakeVault, **changed: Any) -> list[str]:
        token, changes = ensure_runner(gitlab, cast("Vault", vault), RUNNER.model_copy(update=changed), NAME, say)
        assert token == vault.token
        return changes

    def test_it_is_made_once(self, gitlab: GitLab) -> None:
        vault = FakeVault()
        assert self.step(gitlab, vault) == ["runner 1 made in GitLab"]
        assert self.step(gitlab, vault) == []
        assert (gitlab.runner(1).tags, gitlab.runner(1).description) == (("docker", "remote", "ubuntu"), NAME)

    def test_a_dead_token_is_replaced(self, gitlab: GitLab) -> None:
        vault = FakeVault("glrt-dead")
        assert self.step(gitlab, vault) == ["runner 1 made in GitLab"]
        assert vault.version == 2

    def test_one_whose_token_was_lost_is_removed_and_others_stay(self, gitlab: GitLab) -> None:
        lost = gitlab.create_runner(NAME, (), run_untagged=True)
        working = gitlab.create_runner(NAME, (), run_untagged=True)
        gitlab.runner_alive(working.token)
        other = gitlab.create_runner("mine", (), run_untagged=True)
        changes = self.step(gitlab, FakeVault())
        assert changes == ["runner 4 made in GitLab", f"runner {lost.id}, whose token was lost, removed"]
        assert gitlab.runner(working.id)
        assert gitlab.runner(other.id)

    def test_a_vault_that_refuses_leaves_no_runner(self, gitlab: GitLab) -> None:
        vault = FakeVault()
        vault.refuses = True
        with pytest.raises(CasMismatch):
            self.step(gitlab, vault)
        assert gitlab.find_runners(NAME) == ()

    def test_tags_follow_lab_yaml(self, gitlab: GitLab) -> None:
        vault = FakeVault()
        self.step(gitlab, vault)
        assert self.step(gitlab, vault, tags=("gpu", "docker")) == ["runner 1 has the tags docker, gpu"]
        assert self.step(gitlab, vault, tags=("docker", "gpu")) == []


def test_settings_are_mended(gitlab: GitLab, standin: Standin) -> None:
    client = standin.client()
    settings = client.settings.get()
    settings.signup_enabled = True
    settings.save()
    assert ensure_settings(gitlab, gitlab.settings(), say) == ["GitLab's setting signup_enabled is false again"]
    assert ensure_settings(gitlab, gitlab.settings(), say) == []


class FakeGuest:
    """Guest gitlab at its agent."""

    def __init__(self, standin: Standin | None = None) -> None:
        self.standin = standin
        self.files: dict[str, bytes] = {}
        self.units = {steps.CONFIGURE_UNIT: "inactive", steps.REGISTER_UNIT: "inactive", steps.RUNNER_UNIT: "active"}
        self.calls: list[list[str]] = []
        self.registers = True

    def exec(self, _vmid: int, argv: Sequence[str], timeout_s: float = 60.0) -> ExecResult:
        self.calls.append(list(argv))
        if argv[:2] == ["systemctl", "show"]:
            return ExecResult(0, f"Id={argv[-1]}\nLoadState=loaded\nActiveState={self.units[argv[-1]]}\n", "")
        if argv[:2] == ["systemctl", "start"]:
            self._start(argv[-1])
        if argv[0] == "gitlab-rails" and self.standin:
            done = self.standin.run("rails", "runner", str(self.standin.root / argv[2].lstrip("/")))
            return ExecResult(done.returncode, done.stdout, done.stderr)
        return ExecResult(0, "why it failed\n" if argv[0] == "journalctl" else "", "")

    def _start(self, unit: str) -> None:
        if unit == steps.REGISTER_UNIT and self.registers:
            edits = [call for call in self.calls if call[0] == "sed"]
            concurrent = edits[-1][2].split('"')[1]
            token = self.files[RUNNER_TOKEN_FILE].decode()
            self.files[steps.RUNNER_CONFIG] = f'concurrent = {concurrent}\n[[runners]]\n  token = "{token}"\n'.encode()
        elif unit == steps.RUNNER_UNIT:
            self.units[unit] = "active"

    def file_read(self, _vmid: int, path: str, *, missing_ok: bool = False) -> bytes | None:
        assert missing_ok
        return self.files.get(path)

    def refresh(self, token: Secret) -> Callable[[], None]:
        """The guest's agent sees what is new in the Vault."""

        def write() -> None:
            self.files[RUNNER_TOKEN_FILE] = token.reveal().encode()

        return write

    def guest(self) -> GitlabGuest:
        return GitlabGuest(cast("Any", self), LAB.guest("gitlab"), GuestOutput(vmid=201, address="192.0.2.21"), say)


class TestRegistration:
    TOKEN = Secret("glrt-t1_abcdef")

    def registered(self, fake: FakeGuest, concurrent: int = 4, **options: float) -> list[str]:
        return ensure_registered(fake.guest(), self.TOKEN, concurrent, fake.refresh(self.TOKEN), **options)

    def test_it_is_registered_once(self) -> None:
        fake = FakeGuest()
        assert self.registered(fake) == ["the runner registered, 4 jobs at once"]
        fake.calls.clear()
        assert self.registered(fake) == []
        assert len(fake.calls) == 1
        assert self.TOKEN.reveal() not in str(fake.calls)

    def test_another_number_of_jobs_reaches_the_guest(self) -> None:
        fake = FakeGuest()
        self.registered(fake)
        assert self.registered(fake, 8) == ["the runner registered, 8 jobs at once"]

    def test_a_runner_that_is_off_is_started(self) -> None:
        fake = FakeGuest()
        self.registered(fake)
        fake.units[steps.RUNNER_UNIT] = "inactive"
        assert self.registered(fake) == ["the runner started"]

    def test_a_failed_registration_shows_its_log(self) -> None:
        fake = FakeGuest()
        fake.registers = False
        fake.units[steps.REGISTER_UNIT] = "failed"
        with pytest.raises(AdapterError, match=r"lab-runner-register.service failed") as found:
            self.registered(fake, poll_s=0.01)
        assert "why it failed" in found.value.hint
        assert "journalctl -u lab-runner-register.service" in found.value.hint

    def test_one_that_never_comes_is_given_up(self) -> None:
        fake = FakeGuest()
        fake.registers = False
        with pytest.raises(AdapterError, match="not registered in 0 s"):
            self.registered(fake, timeout_s=0.05, poll_s=0.01)


class TestReady:
    def test_a_token_that_was_revoked_is_made_anew_in_the_guest(self, standin: Standin, gitlab: GitLab) -> None:
        standin.client().personal_access_tokens.delete("self")
        settings, changes = ensure_ready(FakeGuest(standin).guest(), gitlab, 20, poll_s=0.1)
        assert changes == ["labctl's token in GitLab made anew"]
        assert settings["signup_enabled"] is False
        assert ensure_ready(FakeGuest(standin).guest(), gitlab, 20)[1] == []

    def test_a_failed_configuration_ends_the_wait(self) -> None:
        fake = FakeGuest()
        fake.units[steps.CONFIGURE_UNIT] = "failed"
        gitlab = GitLab(f"http://{ADDRESS}:{free_port()}", Secret("x"))
        with pytest.raises(AdapterError, match=r"lab-gitlab-configure.service failed"):
            ensure_ready(fake.guest(), gitlab, 20, poll_s=0.1)
        assert ["systemctl", "start", "--no-block", steps.CONFIGURE_UNIT] in fake.calls


def test_a_second_run_asks_gitlab_three_times(standin: Standin, gitlab: GitLab) -> None:
    vault, fake = FakeVault(), FakeGuest()

    def run() -> list[str]:
        settings, changes = ensure_ready(fake.guest(), gitlab, 20)
        changes += ensure_settings(gitlab, settings, say)
        token, made = ensure_runner(gitlab, cast("Vault", vault), RUNNER, NAME, say)
        return changes + made + ensure_registered(fake.guest(), token, RUNNER.concurrent, fake.refresh(token))

    assert run() == ["runner 1 made in GitLab", "the runner registered, 4 jobs at once"]
    before = len(standin.read("api.log").splitlines())
    assert run() == []
    assert len(standin.read("api.log").splitlines()) - before == 3


@pytest.mark.parametrize(
    ("url", "reached"),
    [
        ("", "http://192.0.2.21"),
        ("http://gitlab.lab.internal:8080", "http://192.0.2.21:8080"),
        ("http://git.example.com", "http://git.example.com"),
        ("https://gitlab.lab.internal", "https://gitlab.lab.internal"),
    ],
)
def test_where_it_is_reached(url: str, reached: str) -> None:
    text = "name: lab\ntarget: {sandbox: {}}\n" + (f"platform: {{gitlab: {{external_url: {json.dumps(url)}}}}}\n" if url else "")
    lab = parse_lab(text)
    contract = PlatformContract(
        gitlab_url=lab.gitlab_url,
        registry_host=lab.registry_host,
        docker_host="ssh://ops@192.0.2.22",
        guests={"gitlab": GuestOutput(vmid=201, address="192.0.2.21")},
    )
    assert api_url(lab, contract) == reached
