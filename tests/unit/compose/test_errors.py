"""What programs say, and what labctl tells to do about it. The sayings are recorded."""

from __future__ import annotations

from typing import Any

import pytest

from labctl.adapters.compose import ComposeEngine, EngineUnreachable, NotConverged, Shell, ShellError
from labctl.model.compose import ComposeDifference
from labctl.model.errors import AdapterError, LabError


@pytest.mark.parametrize(
    ("said", "kind", "remedy"),
    [
        (
            "Cannot connect to the Docker daemon at unix:///run/none.sock. Is the docker daemon running?",
            EngineUnreachable,
            "systemctl start docker",
        ),
        ("error during connect: Get http://x/_ping: EOF", EngineUnreachable, "systemctl start docker"),
        (
            "Got permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock",
            EngineUnreachable,
            "group docker",
        ),
        ("sh: 3: docker: not found", EngineUnreachable, "Docker is not installed"),
        ("bash: line 1: docker: command not found", EngineUnreachable, "Docker is not installed"),
        ("docker: 'compose' is not a docker command.\nSee 'docker --help'", EngineUnreachable, "plugin is missing"),
        ("unknown shorthand flag: 'p' in -p\nSee 'docker --help'.", EngineUnreachable, "plugin is missing"),
        ("Bind for 0.0.0.0:80 failed: port is already allocated", ShellError, "Set another port"),
        ("listen tcp4 127.0.0.1:80: bind: address already in use", ShellError, "Set another port"),
        (
            "pull access denied for x, repository does not exist or may require 'docker login'",
            ShellError,
            "not in its registry",
        ),
        ("manifest for x:1 not found: manifest unknown: manifest unknown", ShellError, "not in its registry"),
        ("Get http://127.0.0.1:1/v2/: dial tcp 127.0.0.1:1: connect: connection refused", ShellError, "registry cannot"),
        ("dial tcp: lookup none.invalid on 192.0.2.1:53: no such host", ShellError, "registry cannot be reached"),
        ("write /var/lib/docker/tmp/x: no space left on device", ShellError, "disk is full"),
        ("failed to verify signature: unexpected digest", ShellError, "what is pinned"),
        (f"manifest verification failed for digest sha256:{'0' * 64}", ShellError, "what is pinned"),
        ('could not select device driver "nvidia" with capabilities: [[gpu]]', ShellError, "no GPU"),
        ("something else", ShellError, ""),
    ],
)
def test_what_docker_says(said: str, kind: type[LabError], remedy: str) -> None:
    error = ShellError.of(1, f"\n\n{said}\n", "ssh://ops@docker")
    assert type(error) is kind
    assert remedy in error.hint
    assert bool(error.hint) == bool(remedy)
    assert error.where == "ssh://ops@docker"


class Saying(Shell):
    """A shell in which every script fails with these words."""

    where = "ssh://ops@docker"

    def __init__(self, said: str) -> None:
        self._said = said

    def follow(self, script: str) -> int:
        raise NotImplementedError

    def _call(self, command: Any, content: bytes, timeout_s: float, stop: Any, *, repeat: bool) -> str:
        raise ShellError.of(1, self._said, self.where)


@pytest.mark.parametrize(
    "said",
    [
        "Error response from daemon: manifest for 127.0.0.1:1/a@sha256:1 not found: manifest unknown: manifest unknown",
        "Error response from daemon: pull access denied for a, repository does not exist or may require 'docker login'",
        "Error response from daemon: name unknown: repository name not known to registry",
        'failed to resolve reference "127.0.0.1:1/a:1": 127.0.0.1:1/a:1: not found',
    ],
)
def test_an_image_that_the_registry_does_not_have_is_gone(said: str) -> None:
    assert ComposeEngine(Saying(said)).has_image("127.0.0.1:1/a@sha256:1") is False


@pytest.mark.parametrize(
    ("said", "remedy"),
    [
        ("Get http://127.0.0.1:1/v2/: dial tcp 127.0.0.1:1: connect: connection refused", "registry cannot be reached"),
        ("dial tcp: lookup none.invalid on 192.0.2.1:53: no such host", "registry cannot be reached"),
        ("received unexpected HTTP status: 502 Bad Gateway", "Is its registry up?"),
        ("denied: access forbidden", "Is its registry up?"),
    ],
)
def test_a_registry_that_does_not_say_is_none_that_has_lost_it(said: str, remedy: str) -> None:
    with pytest.raises(AdapterError, match="image a@sha256:1 is there is not known: ") as caught:
        ComposeEngine(Saying(said)).has_image("a@sha256:1")
    assert said in caught.value.message
    assert remedy in caught.value.hint


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("ops@192.0.2.1: Permission denied (publickey).", "refuses labctl's SSH key"),
        ("Host key verification failed.", "its SSH host key is not the one that is known"),
        ("No ED25519 host key is known for docker and you have requested strict checking.", "its SSH host key is not"),
        ("ssh: connect to host 192.0.2.1 port 22: Connection refused", "does not answer"),
        ("ssh: connect to host 192.0.2.1 port 22: No route to host", "does not answer"),
        ("Connection timed out during banner exchange", "does not answer"),
        ("ssh: Could not resolve hostname docker: Name or service not known", "does not answer"),
        ("first\nlast line", "cannot be reached: last line"),
        ("", "cannot be reached: the connection was lost"),
    ],
)
def test_what_ssh_says(said: str, message: str) -> None:
    error = EngineUnreachable.of(said, "ssh://ops@docker")
    assert error.message.startswith(message)
    assert error.hint


def test_a_script_that_said_nothing_or_too_much() -> None:
    assert ShellError.of(7, " \n", "x").message == "ended with exit code 7"
    long = ShellError.of(7, "\n".join(f"line {n}" for n in range(100)), "x")
    assert long.message.splitlines()[0] == "line 88"
    assert isinstance(long, ShellError)
    assert long.code == 7


def test_what_did_not_converge_says_why() -> None:
    different = [ComposeDifference("web", "state", "running", "exited"), ComposeDifference("db", "health", "healthy", "")]
    error = NotConverged("lab", different, "one\ntwo", "Compose said this")
    assert str(error) == "project lab: web: state is exited, wanted running; db: health is nothing, wanted healthy"
    assert error.hint == "Compose said this\nIts last lines:\n  one\n  two"
    checked = NotConverged("lab", different, "one", check="curl: (22) 503\nfailing")
    assert checked.hint == "Its health check said:\n  curl: (22) 503\n  failing\nIts last lines:\n  one"
    assert str(NotConverged("lab", [])) == "project lab: it did not come up"
