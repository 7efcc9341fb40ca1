"""What the object store adapter does without a store."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from botocore import exceptions

from labctl.adapters.objectstore import Credentials, Denied, NotThere, ObjectStore, PreconditionFailed, Unready, identities
from labctl.adapters.objectstore._errors import explained
from labctl.adapters.pki import create_authority
from labctl.model.errors import AdapterError, LabError, UserError
from labctl.model.secret import Secret

ENDPOINT = "https://192.0.2.11:9000"


def pair(name: str) -> Credentials:
    return Credentials(Secret(f"{name}-access"), Secret(f"{name}-secret"))


def test_identities() -> None:
    text = identities(pair("root"), {"terraform": pair("tf"), "gitlab": pair("gl")})
    assert "tf-secret" not in repr(text)
    found = {entry["name"]: entry for entry in json.loads(text.reveal())["identities"]}
    assert list(found) == ["root", "gitlab", "terraform"]
    assert "Admin" in found["root"]["actions"]
    assert found["terraform"]["actions"] == ["Read:terraform", "Write:terraform", "List:terraform", "Tagging:terraform"]
    assert found["gitlab"]["credentials"] == [{"accessKey": "gl-access", "secretKey": "gl-secret"}]


def test_a_projects_bucket_has_an_identity_of_its_own_beside_the_labs() -> None:
    own = {"lake": pair("own")}
    assert identities(pair("root"), own, {}) == identities(pair("root"), own), "nothing is delivered anew for it"
    found = json.loads(identities(pair("root"), own, {"lake": pair("a"), "data": pair("b")}).reveal())["identities"]
    assert [entry["name"] for entry in found] == ["root", "lake", "project:data", "project:lake"]
    assert found[2]["actions"] == ["Read:data", "Write:data", "List:data", "Tagging:data"]


def answer(code: str) -> exceptions.ClientError:
    return exceptions.ClientError({"Error": {"Code": code, "Message": "said so"}}, "PutObject")


CASES = [
    (answer("AccessDenied"), Denied, "lacks the right"),
    (answer("InvalidAccessKeyId"), Denied, "does not know this access key"),
    (answer("SignatureDoesNotMatch"), Denied, "secret key is wrong"),
    (answer("NoSuchBucket"), NotThere, "not there"),
    (answer("404"), NotThere, "not there"),
    (answer("PreconditionFailed"), PreconditionFailed, "there already"),
    (answer("RequestTimeTooSkewed"), UserError, "clocks"),
    (answer("ServiceUnavailable"), Unready, "said so"),
    (answer("Odd"), AdapterError, "Odd: said so"),
    (exceptions.SSLError(endpoint_url=ENDPOINT, error="CERTIFICATE_VERIFY_FAILED"), UserError, "this lab's authority"),
    (exceptions.SSLError(endpoint_url=ENDPOINT, error="certificate has expired"), UserError, "at this time"),
    (exceptions.SSLError(endpoint_url=ENDPOINT, error="IP address mismatch"), UserError, "another name"),
    (exceptions.ConnectTimeoutError(endpoint_url=ENDPOINT), Unready, "in time"),
    (exceptions.ReadTimeoutError(endpoint_url=ENDPOINT), Unready, "in time"),
    (exceptions.EndpointConnectionError(endpoint_url=ENDPOINT, error="refused"), Unready, "connection failed"),
    (exceptions.EndpointConnectionError(endpoint_url=ENDPOINT, error="Failed to resolve 'x'"), UserError, "not known"),
    (exceptions.ConnectionClosedError(endpoint_url=ENDPOINT), Unready, "connection failed"),
]


@pytest.mark.parametrize(("raised", "kind", "says"), CASES)
def test_errors(raised: Exception, kind: type[LabError], says: str) -> None:
    with pytest.raises(LabError, match=says) as caught, explained(ENDPOINT, "write it"):
        raise raised
    assert type(caught.value) is kind
    assert caught.value.where == ENDPOINT


def test_the_users_aws_settings_are_not_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "config"
    config.write_text("[default]\nca_bundle = /nowhere.pem\ns3 =\n  addressing_style = virtual\n")
    for name, value in {
        "AWS_PROFILE": "no-such-profile",
        "AWS_CONFIG_FILE": str(config),
        "AWS_ENDPOINT_URL": "https://elsewhere.example.com",
        "AWS_ENDPOINT_URL_S3": "https://elsewhere.example.com",
        "AWS_CA_BUNDLE": "/nowhere.pem",
        "HTTPS_PROXY": "http://127.86.88.98:1",
    }.items():
        monkeypatch.setenv(name, value)
    ca_file = tmp_path / "ca.pem"
    ca_file.write_text(create_authority("x").cert_pem)
    store = ObjectStore("https://127.86.88.99:9000", "eu-west-1", Secret("a"), Secret("b"), ca_file)
    assert store._client.meta.endpoint_url == "https://127.86.88.99:9000"
    with pytest.raises(Unready) as caught:
        store.buckets()
    assert "127.86.88.98" not in str(caught.value.__cause__)


def test_a_missing_authority_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="authority is not there"):
        ObjectStore(ENDPOINT, "eu-west-1", Secret("a"), Secret("b"), tmp_path / "none.pem")
