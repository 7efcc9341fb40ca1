"""What runs behind guests: the choice, what is kept of it, and the lab that follows."""

from __future__ import annotations

import http.server
import json
import socketserver
import threading
from collections.abc import Iterator
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest

from labctl.engine.lab import open_lab, with_guests
from labctl.engine.target import sandbox_config
from labctl.model.errors import UserError
from labctl.model.lab import Lab
from labctl.model.labfile import parse_lab
from labctl.model.vaultroles import approles
from labctl.sandbox import SandboxConfig
from labctl.sandbox import choice as choices
from labctl.sandbox.choice import Choice, Facts, choose, decide, kept_choice, look
from labctl.sandbox.guests import recipe
from labctl.sandbox.supervisor import require_same_guests
from stacks.__main__ import read_context

SOCKET = "/run/engine.sock"
BARE = Facts(SOCKET, "", image=False, builder="mmdebstrap is not installed")
DOCKER = Facts(SOCKET, "20.10.24", image=False, builder="")
ONLY_IMAGE = Facts(SOCKET, "20.10.24", image=True, builder="mmdebstrap is not installed")
NO_BUILDER = Facts(SOCKET, "20.10.24", image=False, builder="mmdebstrap is not installed")


@pytest.mark.parametrize(
    ("wish", "facts", "kind", "why"),
    [
        ("auto", BARE, "appliance", f"no Docker engine answers on {SOCKET}"),
        ("auto", DOCKER, "container", f"Docker 20.10.24 answers on {SOCKET}"),
        ("auto", ONLY_IMAGE, "container", "Docker 20.10.24"),
        ("auto", NO_BUILDER, "appliance", "apt-get install mmdebstrap"),
        ("container", BARE, "container", "as lab.yaml says"),
        ("appliance", DOCKER, "appliance", "as lab.yaml says"),
    ],
)
def test_the_runtime_follows_from_the_wish_and_the_machine(wish: Any, facts: Facts, kind: str, why: str) -> None:
    found = decide(wish, facts)
    assert found.kind == kind
    assert why in found.why
    assert found.why in found.line


def test_the_line_says_that_containers_are_root_here() -> None:
    assert "root with SYS_ADMIN on this machine's kernel" in Choice("container", "x").line
    assert "SYS_ADMIN" not in Choice("appliance", "x").line


def keep(home: Path, guests: str, wish: str = "auto") -> None:
    home.mkdir(parents=True, exist_ok=True)
    SandboxConfig(guests=guests, wish=wish).write(home / "config.json")


@pytest.mark.parametrize(
    ("kept", "then", "wish", "kind"),
    [
        ("container", "auto", "auto", "container"),
        ("appliance", "auto", "auto", "appliance"),
        ("appliance", "auto", "appliance", "appliance"),
        # `--guests` had its way, and lab.yaml has not changed since.
        ("container", "appliance", "appliance", "container"),
        # lab.yaml has changed: what it says is refused when the sandbox is to start.
        ("container", "auto", "appliance", "appliance"),
    ],
)
def test_the_choice_holds_until_lab_yaml_changes(tmp_path: Path, kept: str, then: str, wish: Any, kind: str) -> None:
    keep(tmp_path, kept, then)
    assert kept_choice(tmp_path) == kept
    assert choose(wish, tmp_path).kind == kind
    assert choose(wish, tmp_path, "appliance").kind == "appliance"


def test_a_sandbox_made_before_there_was_a_choice_has_appliances(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"node": "pve", "address": "127.86.0.1"}')
    assert kept_choice(tmp_path) == "appliance"
    assert kept_choice(tmp_path / "none") is None


def test_another_kind_is_refused_with_what_to_do(tmp_path: Path) -> None:
    keep(tmp_path, "container")
    require_same_guests(tmp_path, SandboxConfig(guests="container"))
    require_same_guests(tmp_path / "none", SandboxConfig(guests="appliance"))
    with pytest.raises(UserError, match="kind `container`") as caught:
        require_same_guests(tmp_path, SandboxConfig(guests="appliance"))
    assert "labctl sandbox reset" in caught.value.hint
    assert "guests: container" in caught.value.hint


# ------------------------------------------------------------ what a machine offers


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


class _Engine(http.server.BaseHTTPRequestHandler):
    images: tuple[str, ...] = ()

    def do_GET(self) -> None:
        found = self.path == "/version" or self.path.split("/")[2] in self.images
        body = json.dumps({"Version": "27.1", "Id": "sha256:1"} if found else {"message": "No such image"}).encode()
        self.send_response(200 if found else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return ""

    def log_message(self, *args: object) -> None: ...


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[_Engine]]:
    path = tmp_path / "engine.sock"
    monkeypatch.setenv("DOCKER_HOST", f"unix://{path}")
    with _Server(str(path), _Engine) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield _Engine
        server.shutdown()


def test_it_asks_the_engine_that_docker_host_names(
    engine: type[_Engine], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(engine, "images", ())
    found = look()
    assert (found.socket, found.engine, found.image) == (f"{tmp_path}/engine.sock", "27.1", False)
    monkeypatch.setattr(engine, "images", (recipe.image_name(),))
    assert look().image


def test_without_an_engine_it_says_so_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    assert look().engine == ""


def test_the_images_name_follows_what_it_is_built_from(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = recipe.image_name()
    assert before == recipe.image_name()
    monkeypatch.setattr(recipe, "PACKAGES", (*recipe.PACKAGES, "ruby"))
    packages = recipe.image_name()
    monkeypatch.setattr(recipe, "HOST_AUTHORITIES", tmp_path)
    (tmp_path / "proxy.crt").write_text("PEM")
    assert len({before, packages, recipe.image_name()}) == 3
    assert recipe.image_files()["usr/local/share/ca-certificates/host-proxy.crt"] == (b"PEM", 0o644)
    assert recipe.image_files()["usr/sbin/sandbox-init"][1] == 0o755


# ------------------------------------------------------------ the lab that follows


def lab(more: str = "", sandbox: str = "{}") -> Lab:
    return parse_lab(f"name: lab\ntarget: {{sandbox: {sandbox}}}\n{more}")


def test_container_guests_boot_and_have_a_network_of_their_own() -> None:
    undecided = lab()
    assert (undecided.boots, str(undecided.subnet), undecided.guest("vault").ip) == (False, "127.86.0.0/24", "127.86.0.102")
    decided = undecided.with_guests("container")
    assert (decided.boots, str(decided.subnet), decided.guest("vault").ip) == (True, "198.18.86.0/24", "198.18.86.102")
    assert decided.with_guests("container") == decided
    assert decided.with_guests("appliance").guest("vault").ip == "127.86.0.102"
    assert sandbox_config(decided).subnet == IPv4Network("198.18.86.0/24")
    assert sandbox_config(undecided).subnet == IPv4Network("127.86.0.0/24")


def test_they_log_in_to_the_vault_from_their_own_address() -> None:
    def bound(one: Lab) -> dict[str, tuple[str, ...]]:
        return {role.name: role.bound_cidrs for role in approles(one)}

    assert bound(lab())["guest-gitlab"] == ("127.0.0.0/8",)
    assert bound(lab().with_guests("container"))["guest-gitlab"] == ("198.18.86.201/32",)


@pytest.mark.parametrize("network", ["127.1.0.0/24", "198.18.0.0/16", "224.0.0.0/24", "here"])
def test_the_guests_network_is_a_24_beyond_loopback(network: str) -> None:
    with pytest.raises(UserError) as caught:
        lab(sandbox=f"{{guest_network: {network}}}")
    assert "lab.yaml:2" in caught.value.where


def test_an_address_of_the_other_kind_is_refused_when_the_choice_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choices, "look", lambda: DOCKER)
    (tmp_path / "lab.yaml").write_text("name: lab\ntarget: {sandbox: {}}\nfoundation: {vault: {address: 127.86.0.9/24}}\n")
    with pytest.raises(UserError, match=r"127\.86\.0\.9 is outside the network 198\.18\.86\.0/24") as caught:
        open_lab(tmp_path / "lab.yaml")
    assert "target.sandbox.guests" in caught.value.hint


def test_a_lab_is_opened_with_the_choice_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choices, "look", lambda: DOCKER)
    (tmp_path / "lab.yaml").write_text("name: lab\ntarget: {sandbox: {}}\n")
    found = open_lab(tmp_path / "lab.yaml")
    assert found.guests
    assert (found.lab.boots, found.guests.wish) == (True, "auto")
    other = with_guests(found, "appliance")
    assert other.guests
    assert (other.lab.boots, other.guests.why, sandbox_config(other.lab, other.guests).guests) == (
        False,
        "as asked for",
        "appliance",
    )
    keep(found.paths.sandbox, "appliance")
    assert not open_lab(tmp_path / "lab.yaml").lab.boots


def test_the_plain_cdktf_cli_synthesises_what_the_sandbox_was_made_with(tmp_path: Path) -> None:
    (tmp_path / "lab.yaml").write_text("name: lab\ntarget: {sandbox: {}}\n")
    environment = {"LABCTL_LAB": str(tmp_path / "lab.yaml")}
    assert not read_context(environment).lab.boots
    keep(tmp_path / ".labctl" / "lab" / "sandbox", "container")
    assert read_context(environment).lab.boots
