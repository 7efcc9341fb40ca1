"""The guests' scripts, run for real by bash.

A script is the one of the document; only the absolute paths in it are turned to a scratch folder.
"""

from __future__ import annotations

import functools
import http.server
import os
import re
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.needs import needed

if TYPE_CHECKING:
    from conftest import Guest


def test_bash_parses_every_script(guest: Guest) -> None:
    assert len(guest.scripts) == 9
    for name, text in guest.scripts.items():
        assert text.startswith("#!/bin/bash\n"), name
        assert "\nset -euo pipefail\n" in text, name
        subprocess.run(["bash", "-n"], input=text, text=True, check=True)


def test_shellcheck(guest: Guest) -> None:
    """SC1090, SC1091: /etc/os-release of the guest is not here to follow."""
    shellcheck = needed("shellcheck", "shellcheck")
    for text in guest.scripts.values():
        subprocess.run([shellcheck, "--exclude=SC1090,SC1091", "-"], input=text, text=True, check=True)


class TestWaitIdentity:
    def test_it_waits_until_the_agent_has_made_every_file(self, guest: Guest) -> None:
        guest.write("run/lab/identity.json", "{}")
        late = threading.Timer(0.4, lambda: guest.write("run/lab/runner.token", ""))
        late.start()
        done = guest.run(
            "wait-identity", f"{guest.root}/run/lab/identity.json", f"{guest.root}/run/lab/runner.token", MAINPID=str(os.getpid())
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert (guest.root / "run/lab/runner.token").exists()

    def test_it_fails_as_soon_as_the_agent_has_ended(self, guest: Guest) -> None:
        ended = subprocess.Popen(["true"])
        ended.wait()
        done = guest.run("wait-identity", f"{guest.root}/run/lab/gitlab.json", MAINPID=str(ended.pid))
        assert done.returncode == 1
        assert "the agent has ended" in done.stderr

    def test_files_of_an_agent_that_has_ended_are_not_enough(self, guest: Guest) -> None:
        ended = subprocess.Popen(["true"])
        ended.wait()
        guest.write("run/lab/gitlab.json", "{}")
        assert guest.run("wait-identity", f"{guest.root}/run/lab/gitlab.json", MAINPID=str(ended.pid)).returncode != 0


ARMOURED = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmDME\n-----END PGP PUBLIC KEY BLOCK-----\n"


class TestAddRepository:
    @pytest.fixture
    def mirror(self, tmp_path: Path) -> Iterator[str]:
        folder = tmp_path / "mirror"
        for path, text in {
            "gpgkey/gpg.key": ARMOURED,
            "page": "<!DOCTYPE html><html>",
            "empty": "",
            "binary": "\x01\x02",
        }.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text)
        handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            yield f"http://127.0.0.1:{server.server_port}"
            server.shutdown()

    @pytest.fixture(autouse=True)
    def _system(self, guest: Guest) -> None:
        guest.write("/etc/os-release", 'PRETTY_NAME="Ubuntu 24.04"\nID=ubuntu\nVERSION_CODENAME=noble\n')
        guest.fake("dpkg", "echo amd64")

    @pytest.mark.parametrize(
        ("system", "expected"),
        [
            (
                "ID=ubuntu\nVERSION_CODENAME=noble\n",
                {
                    "download.docker.com/linux/ubuntu/dists/noble/",
                    "mirror.example.com/gitlab/gitlab/gitlab-ce/ubuntu/noble/dists/noble/",
                    "mirror.example.com/gitlab/runner/gitlab-runner/ubuntu/dists/noble/",
                    "nvidia.github.io/libnvidia-container/stable/deb/amd64/",
                },
            ),
            (
                "ID=debian\nVERSION_CODENAME=trixie\n",
                {
                    "download.docker.com/linux/debian/dists/trixie/",
                    "mirror.example.com/gitlab/gitlab/gitlab-ce/debian/trixie/dists/trixie/",
                    "mirror.example.com/gitlab/runner/gitlab-runner/debian/dists/trixie/",
                    "nvidia.github.io/libnvidia-container/stable/deb/amd64/",
                },
            ),
        ],
    )
    def test_apt_reads_the_documents_repositories(
        self, guest: Guest, documents: dict[str, str], system: str, expected: set[str]
    ) -> None:
        apt = needed("apt-get", "apt")
        guest.write("/etc/os-release", system)
        guest.write("key", ARMOURED)
        guest.fake("curl", 'while [ "$1" != --output ]; do shift; done; cp "$FAKE/key" "$2"; echo "$3" >> "$FAKE/fetched"')
        commands = yaml.safe_load(documents["gitlab-dhcp"])["runcmd"] + yaml.safe_load(documents["docker-gpu"])["runcmd"]
        for command in commands:
            if command[0].endswith("/add-repository"):
                done = guest.run("add-repository", *command[1:])
                assert done.returncode == 0, done.stderr
        parts = guest.root / "etc/apt/sources.list.d"
        options = [
            *("-o", "Dir::Etc::sourcelist=/dev/null", "-o", f"Dir::Etc::sourceparts={parts}"),
            *("-o", f"Dir::State={guest.root}/state", "-o", f"Dir::Cache={guest.root}/cache", "-o", "APT::Architecture=amd64"),
        ]
        done = subprocess.run([apt, *options, "update", "--print-uris"], capture_output=True, text=True, check=True)
        assert done.stderr == ""
        assert set(re.findall(r"^'https://(\S+/)InRelease'", done.stdout, re.MULTILINE)) == expected
        assert {path.read_text() for path in (guest.root / "etc/apt/keyrings").iterdir()} == {ARMOURED}
        assert "https://mirror.example.com/gitlab/gpgkey/gpg.key\n" in guest.read("fetched")

    def test_the_real_curl_fetches_the_key(self, guest: Guest, mirror: str) -> None:
        needed("curl", "curl")
        done = guest.run("add-repository", "gitlab-ce", f"{mirror}/gpgkey/gpg.key", mirror + "/@ID@", "@CODENAME@", "main")
        assert done.returncode == 0, done.stderr
        assert guest.read("/etc/apt/keyrings/gitlab-ce.asc") == ARMOURED
        assert f"URIs: {mirror}/ubuntu\nSuites: noble\nComponents: main\n" in guest.read(
            "/etc/apt/sources.list.d/gitlab-ce.sources"
        )

    def test_a_binary_key_gets_the_other_suffix(self, guest: Guest, mirror: str) -> None:
        needed("curl", "curl")
        assert guest.run("add-repository", "x", f"{mirror}/binary", mirror, "/").returncode == 0
        assert (guest.root / "etc/apt/keyrings/x.gpg").exists()
        assert "Components" not in guest.read("/etc/apt/sources.list.d/x.sources")

    @pytest.mark.parametrize("path", ["page", "empty", "missing"])
    def test_what_is_no_key_is_refused_and_nothing_is_added(
        self,
        guest: Guest,
        mirror: str,
        path: str,
    ) -> None:
        needed("curl", "curl")
        done = guest.run("add-repository", "x", f"{mirror}/{path}", mirror, "noble", "main")
        assert done.returncode != 0
        assert done.stderr
        assert not list((guest.root / "etc/apt/sources.list.d").iterdir())


@pytest.mark.skipif(os.geteuid() != 0, reason="makes files of root: run as root, as in a guest")
class TestRequestCertificate:
    ARGUMENTS = ("root", "vault", "DNS:vault,DNS:vault.lab.example.com,IP:192.0.2.12")

    def request(self, guest: Guest) -> Path:
        csr = guest.root / "tls" / "server.csr"
        done = guest.run("request-certificate", str(csr), *self.ARGUMENTS)
        assert done.returncode == 0, done.stderr
        return csr

    def test_key_and_request(self, guest: Guest) -> None:
        from cryptography import x509
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        csr = self.request(guest)
        request = x509.load_pem_x509_csr(csr.read_bytes())
        names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        key = load_pem_private_key(csr.with_suffix(".key").read_bytes(), None)
        assert request.is_signature_valid
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        assert key.curve.name == "secp256r1"
        assert request.subject.rfc4514_string() == "CN=vault"
        assert names.get_values_for_type(x509.DNSName) == ["vault", "vault.lab.example.com"]
        assert [str(a) for a in names.get_values_for_type(x509.IPAddress)] == ["192.0.2.12"]
        assert csr.with_suffix(".key").stat().st_mode & 0o777 == 0o640
        assert csr.parent.stat().st_mode & 0o777 == 0o750

    def test_a_key_that_is_there_is_kept(self, guest: Guest) -> None:
        before = self.request(guest).with_suffix(".key").read_text()
        assert self.request(guest).with_suffix(".key").read_text() == before
        assert not list((guest.root / "tls").glob("*.new"))


def test_set_hosts_replaces_only_its_own_lines(guest: Guest) -> None:
    guest.write("/etc/hosts", "127.0.0.1 localhost\n127.0.1.1 vault\n")
    guest.write("/etc/lab/hosts", "192.0.2.11 store.example.com store\n")
    for _ in range(2):
        assert guest.run("set-hosts", str(guest.root / "etc/lab/hosts")).returncode == 0
    guest.write("/etc/lab/hosts", "192.0.2.12 store.example.com store\n")
    guest.run("set-hosts", str(guest.root / "etc/lab/hosts"))
    assert guest.read("/etc/hosts") == (
        "127.0.0.1 localhost\n127.0.1.1 vault\n# lab: begin\n192.0.2.12 store.example.com store\n# lab: end\n"
    )


class TestInstallDocker:
    @pytest.mark.parametrize(
        ("id_", "packages"),
        [
            ("debian", "docker.io docker-cli docker-buildx docker-compose"),
            ("ubuntu", "docker.io docker-buildx docker-compose-v2"),
        ],
    )
    def test_it_takes_what_the_distribution_has(self, guest: Guest, id_: str, packages: str) -> None:
        guest.write("/etc/os-release", f"ID={id_}\n")
        for name in ("apt-get", "docker", "systemctl"):
            guest.fake(name, f'echo "{name} $*" >> "$FAKE/log"')
        done = guest.run("install-docker")
        assert done.returncode == 0, done.stderr
        log = guest.read("log").splitlines()
        assert log[1].endswith(f"install -y --no-install-recommends {packages}")
        assert log[2:] == ["docker compose version", "docker buildx version", "systemctl enable --now docker.service"]

    def test_an_unknown_distribution_is_said(self, guest: Guest) -> None:
        guest.write("/etc/os-release", "ID=other\n")
        done = guest.run("install-docker")
        assert done.returncode == 1
        assert "package_source" in done.stderr

    def test_an_engine_without_compose_is_no_success(self, guest: Guest) -> None:
        guest.write("/etc/os-release", "ID=debian\n")
        guest.fake("apt-get", "true")
        guest.fake("docker", "exit 1")
        assert guest.run("install-docker").returncode != 0
