"""What a guest is like inside: recorded answers of its agent, and what counts as drift."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from labctl.model.drift import Kind, Severity
from labctl.model.drift.guestanswer import look_command, parse_answer
from labctl.model.drift.guests import FoundFile, GuestFacts, Held, Listener, compare_guest, digest, held_files, snippets
from labctl.model.lab import Lab
from labctl.model.openings import openings

UNITS = ("gitlab-runsvdir.service", "gitlab-runner.service")
ANSWER = """\
@@ clock
1767322800
@@ sums
1111  /etc/gitlab/gitlab.rb
2222  /usr/local/lib/lab/set-hosts
@@ modes
600 /etc/gitlab/gitlab.rb
755 /usr/local/lib/lab/set-hosts
@@ ss
LISTEN 0      4096         127.0.0.54:53         0.0.0.0:*    users:(("systemd-resolve",pid=90,fd=19))
LISTEN 0      4096      127.0.0.53%lo:53         0.0.0.0:*    users:(("systemd-resolve",pid=90,fd=17))
LISTEN 0      128             0.0.0.0:22         0.0.0.0:*    users:(("sshd",pid=101,fd=3))
LISTEN 0      511             0.0.0.0:80         0.0.0.0:*    users:(("nginx",pid=310,fd=7),("nginx",pid=300,fd=7))
LISTEN 0      4096               [::]:5050          [::]:*    users:(("nginx",pid=300,fd=9))
LISTEN 0      4096                  *:8060             *:*    users:(("nginx",pid=300,fd=10))
LISTEN 0      4096 [::ffff:127.0.0.1]:8082             *:*    users:(("bundle",pid=400,fd=10))
@@ failed
@@ reboot
@@ registry
"checksum_disabled":true
@@ runner
concurrent = 4
@@ told
LAB_RUNNER_CONCURRENT="4"
@@ units
Id=gitlab-runsvdir.service
LoadState=loaded
ActiveState=active

Id=gitlab-runner.service
LoadState=loaded
ActiveState=active
"""
LAB = Lab.model_validate({"name": "datalab", "target": {"sandbox": {"guests": "container"}}})
DOCUMENT = {
    "write_files": [
        {"path": "/etc/gitlab/gitlab.rb", "permissions": "0600", "content": "a"},
        {"path": "/usr/local/lib/lab/set-hosts", "permissions": "0755", "content": "b"},
        {"path": "/etc/lab/runner.env", "permissions": "0644", "content": "c"},
    ]
}
FILES = held_files(DOCUMENT)
HELD = Held("gitlab", "platform", FILES, openings(LAB, "gitlab"), concurrent=4)
SUMS = {"1111": digest(b"a"), "2222": digest(b"b")}


def answered(*changes: tuple[str, str]) -> GuestFacts:
    text = ANSWER
    for old, new in (*SUMS.items(), *changes):
        assert old in text
        text = text.replace(old, new)
    return parse_answer(text, UNITS, 1767322800.0)


SEEDED: dict[str, tuple[tuple[str, str], str, Kind, Severity, str]] = {
    "a file that says who gets in": (
        (digest(b"a"), "f" * 64),
        "file/etc/gitlab/gitlab.rb",
        Kind.CHANGED,
        Severity.HIGH,
        "content",
    ),
    "a script of labctl's": (
        (digest(b"b"), "f" * 64),
        "file/usr/local/lib/lab/set-hosts",
        Kind.CHANGED,
        Severity.MEDIUM,
        "content",
    ),
    "a file that all may read now": (("600 /etc", "644 /etc"), "file/etc/gitlab/gitlab.rb", Kind.CHANGED, Severity.HIGH, "mode"),
    "a file that is gone": (
        (f"{digest(b'b')}  /usr/local/lib/lab/set-hosts\n", ""),
        "file/usr/local/lib/lab/set-hosts",
        Kind.MISSING,
        Severity.MEDIUM,
        "is gone",
    ),
    "checksum_disabled removed": (
        ('"checksum_disabled":true\n', ""),
        "registry/checksum_disabled",
        Kind.CHANGED,
        Severity.HIGH,
        "is not set",
    ),
    "checksum_disabled off": (
        ('"checksum_disabled":true', "checksum_disabled: false"),
        "registry/checksum_disabled",
        Kind.CHANGED,
        Severity.HIGH,
        "is false",
    ),
    "concurrent back to 1": (("concurrent = 4", "concurrent = 1"), "runner/concurrent", Kind.CHANGED, Severity.HIGH, "is 1"),
    "concurrent taken out": (("concurrent = 4\n", ""), "runner/concurrent", Kind.CHANGED, Severity.HIGH, "is not set"),
    "port 2375 opened": (
        ("@@ failed\n", 'LISTEN 0 4096 *:2375 *:* users:(("dockerd",pid=9,fd=4))\n@@ failed\n'),
        "port/2375",
        Kind.UNMANAGED,
        Severity.HIGH,
        "dockerd",
    ),
    "a unit stopped": (
        (
            "Id=gitlab-runner.service\nLoadState=loaded\nActiveState=active",
            "Id=gitlab-runner.service\nLoadState=loaded\nActiveState=inactive",
        ),
        "unit/gitlab-runner.service",
        Kind.CHANGED,
        Severity.MEDIUM,
        "inactive",
    ),
    "a unit of labctl's failed": (
        ("@@ failed\n", "@@ failed\nlab-gitlab-configure.service loaded failed failed Configure GitLab\n"),
        "unit/lab-gitlab-configure.service",
        Kind.CHANGED,
        Severity.MEDIUM,
        "failed",
    ),
    "a unit of the system's failed": (
        ("@@ failed\n", "@@ failed\nmotd-news.service loaded failed failed Message of the day\n"),
        "unit/motd-news.service",
        Kind.CHANGED,
        Severity.LOW,
        "failed",
    ),
}

HARMLESS: dict[str, tuple[tuple[str, str], ...]] = {
    "as it was made": (),
    "other processes and queues": (("pid=300", "pid=4711"), ("LISTEN 0      511 ", "LISTEN 0      128 ")),
    "the registry's settings as YAML": (('"checksum_disabled":true', "checksum_disabled: true"),),
    "more on the guest's own loopback": (
        ("@@ failed\n", 'LISTEN 0 4096 127.0.0.1:2375 0.0.0.0:*\nLISTEN 0 4096 [::1]:9999 [::]:*\n@@ failed\n'),
    ),
    "names on the local network": (("@@ failed\n", "LISTEN 0 4096 0.0.0.0:5355 0.0.0.0:*\n@@ failed\n"),),
    "a few seconds of clock": (("1767322800", "1767322803"),),
    "another order of files": (
        (f"{digest(b'a')}  /etc/gitlab/gitlab.rb\n{digest(b'b')}  /usr/local/lib/lab/set-hosts\n",
         f"{digest(b'b')}  /usr/local/lib/lab/set-hosts\n{digest(b'a')}  /etc/gitlab/gitlab.rb\n"),
    ),
    "spaces around concurrent": (("concurrent = 4", "  concurrent   =   4"),),
}  # fmt: skip


@pytest.mark.parametrize("name", SEEDED)
def test_what_was_changed_by_hand_is_named(name: str) -> None:
    change, id_, kind, severity, words = SEEDED[name]
    (found,), notes, looked = compare_guest(HELD, answered(change))
    assert (found.id, found.kind, found.severity) == (f"gitlab/{id_}", kind, severity)
    assert (found.guest, found.layer, notes) == ("gitlab", "platform", ())
    assert words in found.text
    assert looked > 8


@pytest.mark.parametrize("name", HARMLESS)
def test_what_is_harmless_is_clean(name: str) -> None:
    findings, notes, _looked = compare_guest(HELD, answered(*HARMLESS[name]))
    assert (findings, notes) == ((), ())


def test_what_is_worth_a_note() -> None:
    facts = answered(
        ("@@ reboot\n", "@@ reboot\nrequired\n"),
        ("1767322800", "1767322700"),
        ("ActiveState=active\n\n", "ActiveState=activating\n\n"),
    )
    findings, notes, _looked = compare_guest(HELD, facts)
    assert findings == ()
    assert notes == (
        "guest gitlab waits for a reboot, after an update of its system",
        "the clock of guest gitlab is 100 s behind of this machine's: `timedatectl` there",
        "gitlab-runsvdir.service on guest gitlab is activating just now",
    )


def test_a_number_that_lab_yaml_changed_is_pending() -> None:
    (found,), _notes, _looked = compare_guest(replace(HELD, concurrent=8), answered())
    assert (found.id, found.kind) == ("gitlab/runner/concurrent", Kind.PENDING)


def test_one_port_is_one_finding_whatever_it_listens_on() -> None:
    listeners = (Listener("0.0.0.0", 2375, "dockerd"), Listener("::", 2375, "dockerd"), Listener("::", 2376))
    findings, _notes, _looked = compare_guest(Held("vault", "foundation", ()), GuestFacts({}, listeners))
    assert [one.id for one in findings] == ["vault/port/2375", "vault/port/2376"]
    assert "(0.0.0.0, ::)" in findings[0].text


def test_addresses_are_as_people_write_them() -> None:
    found = answered().listeners or ()
    assert [one.address for one in found] == ["127.0.0.54", "127.0.0.53", "0.0.0.0", "0.0.0.0", "::", "::", "::ffff:127.0.0.1"]
    assert {one.port: one.process for one in found}[22] == "sshd"


def test_without_ss_the_kernel_is_asked() -> None:
    answer = """@@ ss
@@ proc
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0
   1: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 2 1 0 100 0 0 10 0
   2: 0A5612C6:0016 0156C612:9C40 01 00000000:00000000 00:00000000 00000000     0        0 3 1 0 100 0 0 10 0
   0: 00000000000000000000000000000000:0947 00000000000000000000000000000000:0000 0A 00000000:00000000 00:0 0 0 0 4 1
   1: 0000000000000000FFFF00000100007F:1F90 00000000000000000000000000000000:0000 0A 00000000:00000000 00:0 0 0 0 5 1
   2: 00000000000000000000000001000000:0277 00000000000000000000000000000000:0000 0A 00000000:00000000 00:0 0 0 0 6 1
"""
    found = parse_answer(answer, (), 0.0).listeners or ()
    assert [(one.address, one.port, one.loopback) for one in found] == [
        ("0.0.0.0", 22, False),
        ("127.0.0.1", 8080, True),
        ("::", 2375, False),
        ("127.0.0.1", 8080, True),
        ("::1", 631, True),
    ]


def test_the_command_runs_here_and_shows_no_content(tmp_path: Path) -> None:
    """As in a guest, but for what this machine does not have."""
    file = tmp_path / "a file"
    file.write_text("content-that-stays")
    file.chmod(0o640)
    command = look_command([str(file), str(tmp_path / "none")], ["nonesuch.service"], gitlab=True)
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    facts = parse_answer(done.stdout, ["nonesuch.service"], 0.0)
    assert facts.files == {str(file): FoundFile(digest(b"content-that-stays"), "640")}
    assert facts.units == {"nonesuch.service": "missing"}
    assert facts.clock_s > 0
    assert (facts.checksum_disabled, facts.concurrent) == ("", 0)
    assert "content-that-stays" not in done.stdout


@pytest.mark.parametrize("document", [None, [], {}, {"write_files": None}, {"write_files": ["x", {"content": "no path"}]}])
def test_a_document_without_files_holds_none(document: Any) -> None:
    assert held_files(document) == ()


def test_with_a_gpu_the_engines_settings_are_not_held() -> None:
    document = {"write_files": [{"path": "/etc/docker/daemon.json", "content": "{}"}]}
    assert [one.path for one in held_files(document)] == ["/etc/docker/daemon.json"]
    assert held_files(document, gpu=True) == ()


def test_the_documents_that_a_stack_uploaded() -> None:
    file = {
        "mode": "managed",
        "type": "proxmox_virtual_environment_file",
        "instances": [{"attributes": {"source_raw": [{"file_name": "datalab-vault-user-data.yaml", "data": "#cloud-config"}]}}],
    }
    other = {"mode": "managed", "type": "proxmox_virtual_environment_file", "instances": [{"attributes": {"source_raw": []}}]}
    state = {"resources": [file, other, {"mode": "data", "type": "terraform_remote_state", "instances": []}]}
    assert snippets(state) == {"datalab-vault-user-data.yaml": "#cloud-config"}
    assert snippets({}) == {}


def test_every_guest_has_its_openings() -> None:
    assert {guest.name: [one.port for one in openings(LAB, guest.name)] for guest in LAB.guests()} == {
        "vault": [8200],
        "store": [9000],
        "gitlab": [80, 22, 5050],
        "docker": [22],
    }
