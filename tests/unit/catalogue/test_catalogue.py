"""What the catalogue names, and what follows from it."""

from __future__ import annotations

import json
import re

import pytest

from labctl.adapters.vault import generate
from labctl.model.catalogue import DRIFT, GITLAB_REGISTRY, OPERATOR, PROVIDER, STORE_ROOT, bucket_secrets, catalogue
from labctl.model.errors import UserError
from labctl.model.lab import Lab
from labctl.model.services import Services
from labctl.model.vaultroles import approles, guest_role, policies

OPS = ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGJ0", "age1" + "q" * 58]


def sandbox(**foundation: object) -> Lab:
    return Lab.model_validate({"name": "datalab", "target": {"sandbox": {}}, "foundation": foundation})


def proxmox() -> Lab:
    return Lab.model_validate(
        {
            "name": "datalab",
            "target": {"proxmox": {"endpoint": "https://pve.example.com:8006"}},
            "operators": OPS[1:],
            "network": {"cidr": "192.0.2.0/24"},
            "platform": {"gitlab": {"vmid": 201, "address": "192.0.2.21/24"}, "docker": {"vmid": 202, "address": "dhcp"}},
        }
    )


def reads(lab: Lab, guest: str) -> set[str]:
    document = json.loads(policies(lab)[f"guest-{guest}"])["path"]
    listed = {path: rule for path, rule in document.items() if path.startswith("lab/metadata/")}
    assert all(rule == {"capabilities": ["list"]} for rule in listed.values())
    assert set(listed) == ({"lab/metadata/gitlab/"} if guest == "gitlab" else set())
    assert all(rule == {"capabilities": ["read"]} for path, rule in document.items() if path not in listed)
    return {path.removeprefix("lab/data/") for path in document if path not in listed}


def test_every_path_once_and_described() -> None:
    specs = catalogue(sandbox())
    paths = [spec.path for spec in specs]
    assert paths == sorted(set(paths))
    assert all(spec.description and spec.rotation and spec.readers and spec.fields for spec in specs)
    assert {"store/root", "store/terraform", "store/gitlab", "gitlab/root", "gitlab/runner"} <= set(paths)


def test_readers_are_guests_or_the_operator() -> None:
    lab = sandbox()
    known = {guest.role.name for guest in lab.guests()} | {OPERATOR}
    for spec in catalogue(lab):
        assert set(spec.readers) <= known, spec.path


def test_each_guest_reads_what_names_it_and_nothing_else() -> None:
    lab = sandbox()
    assert reads(lab, "vault") == set()
    assert reads(lab, "gitlab") == {"gitlab/root", "gitlab/runner", "store/gitlab"}
    assert reads(lab, "docker") == {"store/mlflow"}
    assert reads(lab, "store") == {STORE_ROOT, *bucket_secrets(lab).values()}


def test_values_are_long_enough_and_the_runner_token_is_not_generated() -> None:
    for spec in catalogue(sandbox()):
        assert all(generator.length >= 20 for generator in spec.generated.values())
    runner = next(spec for spec in catalogue(sandbox()) if spec.path == "gitlab/runner")
    assert list(runner.fields) == ["token"]
    assert runner.generated == {}


def test_gitlabs_token_looks_like_one_of_gitlab() -> None:
    root = next(spec for spec in catalogue(sandbox()) if spec.path == "gitlab/root")
    assert set(root.fields) == {"password", "api_token"}
    assert re.fullmatch(r"glpat-[A-Za-z0-9]{20}", generate(root.fields["api_token"]).reveal())


def test_a_bucket_cannot_take_the_administrators_place() -> None:
    with pytest.raises(UserError, match="'root'"):
        catalogue(sandbox(store={"vmid": 101, "buckets": ["terraform", "gitlab", "root"]}))


def test_the_operator_has_no_way_around_wrapping_and_no_other_mount() -> None:
    document = json.loads(policies(sandbox())[OPERATOR])["path"]
    assert document["auth/approle/role/+/secret-id"]["min_wrapping_ttl"] == "30s"
    assert not [path for path in document if path.startswith("auth/approle/role/") and "*" in path]
    assert {path.split("/")[0] for path in document} == {"lab", "auth", "sys"}
    assert "sys/policies/acl/*" not in document
    assert not any("delete" in rule["capabilities"] for rule in document.values())
    assert [path for path, rule in document.items() if "sudo" in rule["capabilities"]] == ["auth/token/accessors/", "sys/audit"]


def test_roles_of_guests_log_in_once_from_their_address() -> None:
    roles = {role.name: role for role in approles(proxmox())}
    assert roles["guest-gitlab"].bound_cidrs == ("192.0.2.21/32",)
    assert roles["guest-docker"].bound_cidrs == ()
    assert {role.bound_cidrs for role in approles(sandbox()) if role.name not in (OPERATOR, DRIFT)} == {("127.0.0.0/8",)}
    for guest in proxmox().guests():
        role = roles[guest_role(guest)]
        assert (role.secret_id_num_uses, role.policies) == (1, (guest_role(guest),))
        assert 0 < role.secret_id_ttl_s <= 600
    assert roles[OPERATOR].policies == (OPERATOR,)


def test_the_nightly_check_changes_nothing_and_reads_one_secret() -> None:
    def writes(lab: Lab) -> set[str]:
        document = json.loads(policies(lab)[DRIFT])["path"]
        assert not any({"delete", "patch"} & set(rule["capabilities"]) for rule in document.values())
        assert [path for path, rule in document.items() if "sudo" in rule["capabilities"]] == ["sys/audit"]
        return {path for path, rule in document.items() if {"create", "update"} & set(rule["capabilities"])}

    def read(lab: Lab) -> set[str]:
        return {path for path in json.loads(policies(lab)[DRIFT])["path"] if path.startswith("lab/data/")}

    looks_up = "auth/approle/role/+/secret-id-accessor/lookup"
    assert (writes(sandbox()), read(sandbox())) == ({looks_up}, {"lab/data/store/terraform"})
    services = proxmox().model_copy(update={"services": Services.model_validate({"kafka": {}})})
    assert writes(services) == {looks_up, "auth/approle/role/provider/secret-id"}
    assert read(services) == {"lab/data/store/terraform", "lab/data/platform/ssh"}


def test_documents_are_the_same_every_time() -> None:
    assert policies(sandbox()) == policies(sandbox())


def with_services(services: dict[str, object], guests: str = "container") -> Lab:
    return Lab.model_validate({"name": "datalab", "target": {"sandbox": {"guests": guests}}, "services": services})


def test_the_provider_reads_what_services_are_given_and_nothing_else() -> None:
    lab = with_services({"postgres": {}, "mlflow": {}, "kafka": {}})
    document = json.loads(policies(lab)[PROVIDER])["path"]
    assert all(rule == {"capabilities": ["read"]} for rule in document.values())
    wanted = {"labctl/content", "services/postgres", "services/mlflow", "store/mlflow"}
    assert set(document) == {f"lab/data/{path}" for path in wanted}
    assert {spec.path for spec in catalogue(lab) if PROVIDER in spec.readers} == wanted
    (role,) = (role for role in approles(lab) if role.name == PROVIDER)
    assert (role.policies, role.secret_id_num_uses, role.token_period_s) == ((PROVIDER,), 1, 0)
    assert 0 < role.token_ttl_s <= 4 * 3600
    assert 0 < role.secret_id_ttl_s <= 60


def test_each_service_that_is_on_has_the_secrets_that_it_takes() -> None:
    names = ("postgres", "kafka", "mlflow", "ollama", "open_webui", "portainer")
    lab = with_services({name: {} for name in names})
    known = {f"{spec.path}#{field}" for spec in catalogue(lab) for field in spec.fields}
    for spec in lab.service_specs():
        assert set(spec.kind.secrets.values()) <= known
    one = with_services({"portainer": {}})
    assert {spec.path for spec in catalogue(one)} - {spec.path for spec in catalogue(sandbox())} == {
        "labctl/content",
        "services/portainer",
    }


def test_where_there_are_apps_the_provider_reads_the_registrys_login() -> None:
    services = {"services": {"postgres": {}, "kafka": {}, "mlflow": {}}}
    apps = {"mlserver": {"models": [{"name": "houses"}]}, "project": "team/ml/apps"}
    text = {"name": "datalab", "target": {"sandbox": {"guests": "container"}}, **services}
    lab, without = Lab.model_validate({**text, "apps": apps}), Lab.model_validate(text)
    assert {spec.path for spec in catalogue(lab)} - {spec.path for spec in catalogue(without)} == {GITLAB_REGISTRY}
    (spec,) = (spec for spec in catalogue(lab) if spec.path == GITLAB_REGISTRY)
    assert (set(spec.fields), spec.generated, spec.readers) == ({"username", "token"}, {}, (PROVIDER, OPERATOR))
    assert "team/ml/apps" in spec.description
    assert "team/ml/apps" in spec.rotation
    assert f"lab/data/{GITLAB_REGISTRY}" in json.loads(policies(lab)[PROVIDER])["path"]
    for guest in lab.guests():
        assert f"lab/data/{GITLAB_REGISTRY}" not in json.loads(policies(lab)[guest_role(guest)])["path"]


@pytest.mark.parametrize("lab", [with_services({}), with_services({"postgres": {}}, "appliance")])
def test_without_services_there_is_nothing_for_the_provider(lab: Lab) -> None:
    assert PROVIDER not in policies(lab)
    assert PROVIDER not in {role.name for role in approles(lab)}
    assert [spec.path for spec in catalogue(lab)] == [spec.path for spec in catalogue(sandbox())]


def test_no_guest_reads_what_is_the_services() -> None:
    lab = with_services({"postgres": {}, "mlflow": {}})
    for guest in lab.guests():
        document = json.loads(policies(lab)[guest_role(guest)])["path"]
        assert not [path for path in document if "/services/" in path or "/labctl/" in path]
