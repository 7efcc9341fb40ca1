"""Guests that boot: systemd containers that run the real cloud-init with the snippets that Terraform uploaded."""

from __future__ import annotations

import json
import os
import socket
import tomllib

import pytest

from labctl.model.drift import Severity
from tests.e2e.booted import BOOTED, GUESTS, VMIDS, Booted
from tests.e2e.canary_life import store
from tests.e2e.world import looked

pytestmark = pytest.mark.xdist_group(BOOTED)

LARGE_IMAGE = """set -e
cd $(mktemp -d)
(command -v busybox || sudo apt-get install -qq -y busybox-static) >&2
mkdir root; cp $(command -v busybox) root/busybox; tar -C root -c . | docker import - lab/base >&2
for n in 1 2 3; do head -c 45000000 /dev/urandom > blob$n; done
printf 'FROM lab/base\\nCOPY blob1 /\\nCOPY blob2 /\\nCOPY blob3 /\\n' > Dockerfile
DOCKER_BUILDKIT=0 docker build -q -t {name}:1 . >&2
docker push -q {name}:1 >&2
docker image inspect -f '{{{{index .RepoDigests 0}}}}' {name}:1
docker image rm -f {name}:1 >&2
docker pull -q {name}:1 >&2
docker image inspect -f '{{{{index .RepoDigests 0}}}}' {name}:1
docker run --rm {name}:1 /busybox sha256sum /blob1 >&2
"""
"""Makes an image of three layers of 45 MB, pushes it, forgets it and pulls it; prints its digest after each."""


def test_status_says_that_all_are_up(booted: Booted) -> None:
    guests = {guest["name"]: guest for layer in booted.lab.json("status")["layers"] for guest in layer["guests"]}
    assert set(guests) == set(GUESTS)
    for guest in guests.values():
        assert (guest["agent"], guest["cloud_init"]) == ("running", "done"), guest
        assert set(guest["services"].values()) == {"active"}, guest


def test_there_is_nothing_to_do_afterwards(booted: Booted) -> None:
    assert "Nothing to do" in booted.lab.ok("up", "--yes").out
    assert booted.lab.run("plan", "--detailed-exitcode").code == 0


def test_the_address_that_the_agent_reports_is_the_one_that_answers(booted: Booted) -> None:
    for name, port in (("vault", 8200), ("store", 9000), ("gitlab", 80), ("docker", 22)):
        found = booted.pve.qemu(VMIDS[name]).agent("network-get-interfaces").get()["result"]
        # The ends of containers' interfaces have none.
        own = [interface.get("ip-addresses", ()) for interface in found if interface["name"] != "lo"]
        addresses = {one["ip-address"] for listed in own for one in listed}
        (layer_address,) = {
            guest["address"]
            for layer in booted.lab.json("status")["layers"]
            for guest in layer["guests"]
            if guest["name"] == name
        }
        assert layer_address in addresses
        with socket.create_connection((layer_address, port), 5):
            pass


def test_the_registry_does_without_checksums(booted: Booted) -> None:
    """GitLab's first fix: the effective settings, as gitlab.rb is evaluated."""
    config = json.loads(booted.said("gitlab", "cat /var/opt/gitlab/registry/config.yml"))
    assert config["storage"]["s3"]["checksum_disabled"] is True


def test_the_runner_runs_four_jobs_at_once_and_was_restarted_since(booted: Booted) -> None:
    """GitLab's second fix: `register` writes 1."""
    config = booted.said("gitlab", "cat /etc/gitlab-runner/config.toml")
    assert "concurrent = 4" in config.splitlines()
    assert "glrt-" in config
    changed = float(booted.said("gitlab", "stat -c %Y /etc/gitlab-runner/config.toml"))
    started = booted.said("gitlab", 'date +%s -d "$(systemctl show -P ActiveEnterTimestamp gitlab-runner.service)"')
    assert float(started) >= changed


def test_a_large_image_is_pushed_and_pulled_with_the_same_digest(booted: Booted) -> None:
    """From the Docker guest to the lab's registry, whose blobs lie in the lab's store."""
    outputs = booted.lab.json("output", "platform")
    name = f"{outputs['registry_host']}/root/images"
    booted.gitlab.projects.create({"name": "images"})
    token = booted.lab.json("secrets", "get", "gitlab/root")["data"]["api_token"]
    login = ["ssh", "docker", "--", "docker", "login", "--username", "root", "--password-stdin", outputs["registry_host"]]
    booted.lab.ok(*login, stdin=token)
    made = booted.lab.ok("ssh", "docker", "--", LARGE_IMAGE.format(name=name), timeout_s=300).out.split()
    assert made[0] == made[1]
    assert made[0].startswith(f"{name}@sha256:")
    bucket = store(booted.lab).list_objects_v2(Bucket="gitlab")["Contents"]
    assert sum(entry["Size"] for entry in bucket) > 100 * 10**6


def test_a_push_without_a_project_is_denied(booted: Booted) -> None:
    name = f"{booted.lab.json('output', 'platform')['registry_host']}/root/none:1"
    denied = booted.lab.run("ssh", "docker", "--", f"docker tag lab/base {name} && docker push {name}")
    assert denied.code != 0
    assert "denied" in denied.out + denied.err


def test_a_runner_that_was_removed_in_gitlab_is_made_and_registered_anew(booted: Booted) -> None:
    def known() -> list[int]:
        config = tomllib.loads(booted.said("gitlab", "cat /etc/gitlab-runner/config.toml"))
        assert config["concurrent"] == 4
        return [runner["id"] for runner in config["runners"]]

    before = known()
    booted.gitlab.runners.delete(before[0])
    done = booted.lab.ok("up", "--yes", "--json").last_json
    assert [step for step in done["steps"] if step.endswith("made in GitLab")]
    assert len(known()) == 1
    assert known() != before
    assert booted.lab.ok("up", "--yes", "--json").last_json["steps"] == []


def test_what_gitlab_keeps_outlives_its_container(booted: Booted) -> None:
    project = booted.gitlab.projects.create({"name": "kept"})
    project.variables.create({"key": "DB_PASSWORD", "value": "variable-value-123", "masked": True})
    (container,) = [one for one in booted.containers() if one.labels["labctl.vmid"] == "201"]
    container.remove(force=True)
    booted.lab.ok("up", "--yes", timeout_s=600)
    kept = booted.gitlab.projects.get("root/kept").variables.get("DB_PASSWORD")
    assert kept.value == "variable-value-123"
    assert booted.lab.run("plan", "--detailed-exitcode").code == 0


def test_the_engine_is_reached_over_ssh_only(booted: Booted) -> None:
    address = booted.lab.json("output", "platform")["guests"]["docker"]["address"]
    for port in (2375, 2376):
        with pytest.raises(OSError, match="refused"), socket.create_connection((address, port), 5):
            pass
    assert booted.lab.ok("ssh", "docker", "--", "docker", "version", "--format", "{{.Server.Os}}").out.strip() == "linux"
    assert booted.lab.run("ssh", "docker", "--", "exit", "7").code == 7


KEPT = {
    # GitLab knows no other way than its own files, readable by root: the runner's token, the registry's key pair.
    "gitlab": {"/etc/gitlab-runner/config.toml", "/var/opt/gitlab/registry/config.yml"},
}


def test_a_secret_lies_only_in_the_guest_that_it_is_for(booted: Booted) -> None:
    """Root file systems, arguments, journals and what the engine knows of a container."""
    listed = booted.lab.json("secrets", "list")["secrets"]
    values: dict[str, set[str]] = {}
    for secret in listed:
        # What is kept of a topic is no secret, nor is the name of a login.
        if secret["version"] and not secret["path"].startswith("projects/kafka"):
            held = booted.lab.json("secrets", "get", secret["path"])["data"]
            values |= {value: set(secret["readers"]) for name, value in held.items() if name != "username"}
    assert len(values) > 10
    one_line = [value for value in values if "\n" not in value]
    for container in booted.containers():
        guest = container.attrs["Config"]["Hostname"]
        assert not [1 for value in values if value in json.dumps(container.attrs)], f"docker inspect shows a secret of {guest}"
        booted.pve.qemu(VMIDS[guest]).agent("file-write").post(file="/run/canaries", content="\n".join(one_line) + "\n")
        found = booted.inside(guest, "grep -rlsF -f /run/canaries --exclude-dir=proc --exclude-dir=sys --exclude-dir=run /")
        assert set(found.out.split()) == KEPT.get(guest, set())
        seen = booted.said(guest, "cat /proc/[0-9]*/cmdline | tr '\\0' ' '; rm /run/canaries; journalctl --no-pager | cat")
        assert not [1 for value in values if value in seen], f"an argument or the journal of {guest} holds a secret"
        delivered = booted.said(guest, "cat /run/lab/* 2>/dev/null || true")
        there = {value for value in one_line if value in delivered}
        assert all(guest in values[value] for value in there), f"guest {guest} has what is not for it"
        assert bool(there) == (guest != "vault")


def drifted(booted: Booted) -> dict[str, Severity]:
    """What a drift check finds outside of the states. All of it must be possible to look at."""
    areas = looked(booted.lab)
    assert [area.problems for area in areas.values()] == [()] * len(areas)
    assert min(area.looked for area in areas.values()) > 5
    return {one.id: one.severity for area in areas.values() for one in area.findings}


def test_a_drift_check_finds_nothing_after_restarts(booted: Booted) -> None:
    booted.said("gitlab", "systemctl restart gitlab-runner.service")
    booted.said(
        "docker", "docker restart $(docker ps -q --filter label=com.docker.compose.project=kafka) && systemctl daemon-reload"
    )
    assert drifted(booted) == {}


def test_a_drift_check_finds_what_was_changed_in_guests(booted: Booted) -> None:
    """GitLab's two fixes, a port, a file, a container that is no project's."""
    config = "/var/opt/gitlab/registry/config.yml"
    booted.said("gitlab", f"cp -p {config} /root/registry.yml && sed -i 's/\"checksum_disabled\": *true,\\?//' {config}")
    booted.said("gitlab", "sed -i 's/^concurrent = 4/concurrent = 1/' /etc/gitlab-runner/config.toml")
    booted.said("docker", "cp -p /usr/local/lib/lab/set-hosts /root/ && echo '# by hand' >> /usr/local/lib/lab/set-hosts")
    booted.said("docker", "systemd-run --quiet --collect --unit=by-hand python3 -m http.server 2375")
    image = "$(docker inspect -f '{{.Config.Image}}' $(docker ps -q | head -n 1))"
    booted.said("docker", f"docker run -d --name by-hand --entrypoint sleep {image} 900")
    try:
        found = drifted(booted)
    finally:
        booted.said("gitlab", f"mv /root/registry.yml {config}")
        booted.said("docker", "mv /root/set-hosts /usr/local/lib/lab/; docker rm -f by-hand; systemctl stop by-hand.service")
    assert found == {
        "gitlab/registry/checksum_disabled": Severity.HIGH,
        "gitlab/runner/concurrent": Severity.HIGH,
        "docker/port/2375": Severity.HIGH,
        "docker/file/usr/local/lib/lab/set-hosts": Severity.MEDIUM,
        "container/by-hand": Severity.LOW,
    }
    booted.lab.ok("up", "--yes", timeout_s=600)
    assert drifted(booted) == {}


def test_after_a_reboot_of_the_machine_up_brings_the_lab_back(booted: Booted) -> None:
    secret = booted.lab.json("secrets", "get", "gitlab/root")
    booted.said("docker", "echo kept > /root/kept; sync")
    # As a reboot: no daemon, no container that runs, nothing asked for its leave.
    pid = booted.lab.json("sandbox", "status")["pid"]
    os.kill(pid, 9)
    for container in booted.containers():
        container.kill()
    booted.lab.ok("up", "--yes", timeout_s=600)
    assert booted.said("docker", "cat /root/kept") == "kept\n"
    assert booted.lab.json("secrets", "get", "gitlab/root") == secret
    assert booted.lab.run("plan", "--detailed-exitcode").code == 0


def test_reset_leaves_nothing(booted: Booted) -> None:
    home = str((booted.lab.work / "sandbox").resolve())
    own = {"label": f"labctl.home={home}"}
    assert booted.containers()
    booted.lab.ok("sandbox", "reset", "--yes")
    assert booted.containers() == []
    assert booted.client.volumes.list(filters=own) == []
    assert booted.client.networks.list(filters=own) == []
