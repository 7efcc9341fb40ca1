"""The one-time identity, with a guest and a Vault that only pretend; the real ones are in tests/e2e/test_identity.py."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest

from labctl.adapters.proxmox import ExecResult
from labctl.engine.steps.identity import Tampered, ensure_identity
from labctl.model.contracts import GuestOutput
from labctl.model.errors import AdapterError
from labctl.model.guestfiles import ROLE_ID, WRAPPED_SECRET_ID
from labctl.model.labfile import parse_lab
from labctl.model.secret import Secret

GITLAB = parse_lab("name: lab\ntarget: {sandbox: {}}\n").guest("gitlab")
OUTPUT = GuestOutput(vmid=201, address="127.86.0.203")
USED = "starting auth handler\n* wrapping token is not valid or does not exist\n"
SEALED = "starting auth handler\n* Vault is sealed\n"


class Cut(Exception):
    """The run ends here."""


@dataclass
class Scene:
    """A Vault, a guest, and a clock; each call counts."""

    state: str = "inactive"
    load: str = "loaded"
    says: Sequence[str] = ()
    seconds: float = 1.0
    alive: set[str] = field(default_factory=set)
    out: set[str] = field(default_factory=set)
    logins: int = 0
    files: dict[str, str] = field(default_factory=dict)
    failures: int = 0
    issued: int = 0
    calls: int = 0
    cut_at: int | None = None
    now: float = 0.0
    argv: list[str] = field(default_factory=list)

    def _call(self) -> None:
        self.calls += 1
        if self.calls == self.cut_at:
            raise Cut

    # --- the Vault

    def withdraw_secret_ids(self, _role: str) -> int:
        self._call()
        count, self.out = len(self.out), set()
        return count

    def end_logins(self, _role: str) -> int:
        self._call()
        count, self.logins = self.logins, 0
        return count

    def role_id(self, _role: str) -> Secret:
        self._call()
        return Secret("role-id")

    def wrapped_secret_id(self, _role: str, ttl_s: int) -> Secret:
        self._call()
        assert ttl_s == 300
        self.issued += 1
        token = f"s.token-{self.issued}"
        self.alive.add(token)
        self.out.add(token)
        return Secret(token)

    def wrapping_alive(self, token: Secret) -> bool:
        self._call()
        return token.reveal() in self.alive

    # --- the guest

    def file_write(self, _vmid: int, path: str, content: Secret, mode: int = 0o600) -> None:
        self._call()
        assert (mode, isinstance(content, Secret)) == (0o600, True)
        self.files[path] = content.reveal()

    def exec(self, _vmid: int, argv: Sequence[str], timeout_s: float = 60.0) -> ExecResult:
        self._call()
        self.argv += argv
        if argv[:2] == ["systemctl", "show"]:
            return ExecResult(0, f"LoadState={self.load}\nActiveState={self.state}\n", "")
        if argv[0] == "journalctl":
            return ExecResult(0, self.says[min(self.failures, len(self.says)) - 1], "")
        if argv[0] == "mv":
            self.files[argv[3]] = self.files.pop(argv[2])
        elif argv[1] == "stop":
            self.state = "inactive"
        elif argv[1] == "start" and self.state != "active":
            self._start()
        return ExecResult(0, "", "")

    def _start(self) -> None:
        token = self.files.pop(WRAPPED_SECRET_ID, None)
        role = self.files.pop(ROLE_ID, None)
        if token is None or role is None:
            return
        self.now += self.seconds
        if self.failures < len(self.says) or token not in self.alive:
            self.failures += 1
            self.state = "failed"
            return
        self.alive.remove(token)
        self.out.remove(token)
        self.logins += 1
        self.state = "active"

    def step(self, *, anew: bool = False, warn: Callable[[str], None] = lambda _text: None) -> bool:
        return ensure_identity(
            self,  # type: ignore[arg-type]
            self,  # type: ignore[arg-type]
            GITLAB,
            OUTPUT,
            lambda _text: None,
            warn=warn,
            anew=anew,
            clock=lambda: self.now,
        )


def test_a_guest_logs_in_once_and_the_second_run_asks_once_and_does_nothing() -> None:
    scene = Scene()
    assert scene.step()
    assert (scene.state, scene.out, scene.files) == ("active", set(), {})
    scene.calls = 0
    assert not scene.step()
    assert scene.calls == 1
    assert scene.step(anew=True)
    assert (scene.state, scene.logins) == ("active", 1)
    assert not [word for word in scene.argv if "s.token" in word or word == "role-id"]


def test_cut_off_anywhere_the_next_run_ends_with_one_login_and_nothing_out() -> None:
    whole = Scene()
    whole.step()
    for cut in range(1, whole.calls + 1):
        scene = Scene(cut_at=cut)
        with pytest.raises(Cut):
            scene.step()
        scene.cut_at = None
        scene.step()
        assert (scene.state, scene.out, scene.logins) == ("active", set(), 1), f"cut at call {cut}"
        assert not scene.step()


def test_a_token_that_somebody_else_used_is_tampering_and_what_he_had_is_taken() -> None:
    scene = Scene(says=[USED])
    taken: list[int] = []

    def take(role: str, ttl_s: int) -> Secret:
        token = Scene.wrapped_secret_id(scene, role, ttl_s)
        scene.alive.clear()
        scene.logins += 1
        taken.append(1)
        return token

    scene.wrapped_secret_id = take  # type: ignore[method-assign]
    with pytest.raises(Tampered, match="tampering") as caught:
        scene.step()
    assert len(taken) == 1, "it is not tried again by itself"
    assert (scene.out, scene.logins) == (set(), 0)
    assert "1 unused secret-ids destroyed, 1 logins of guest-gitlab revoked" in caught.value.hint
    assert "labctl secrets list" in caught.value.hint


def test_a_token_that_nobody_used_is_no_tampering() -> None:
    with pytest.raises(AdapterError, match="cannot log in") as caught:
        Scene(says=[USED]).step()
    assert not isinstance(caught.value, Tampered)


def test_an_expired_token_is_replaced() -> None:
    scene = Scene(says=[USED], seconds=301)
    assert scene.step()
    assert (scene.issued, scene.out) == (2, set())


def test_a_sealed_vault_is_tried_twice_and_then_told() -> None:
    scene = Scene(says=[SEALED, SEALED, SEALED])
    with pytest.raises(AdapterError, match="the Vault is sealed") as caught:
        scene.step()
    assert (scene.issued, scene.out) == (2, set())
    assert "`labctl vault unseal`" in caught.value.hint


def test_a_guest_of_an_earlier_labctl_is_warned_of() -> None:
    scene, warned = Scene(load="not-found"), list[str]()
    assert not scene.step(warn=warned.append)
    assert scene.issued == 0
    assert "made by an earlier labctl" in warned[0]


def test_a_login_that_is_going_on_is_waited_for() -> None:
    scene = Scene(state="activating", files={ROLE_ID: "r", WRAPPED_SECRET_ID: "t"}, alive={"t"}, out={"t"})
    assert not scene.step()
    assert (scene.state, scene.issued) == ("active", 0)
