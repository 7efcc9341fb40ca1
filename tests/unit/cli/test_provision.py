"""What `labctl provision` says: what was done, where the credentials lie, and no value unless asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from labctl.cli import main
from labctl.engine import provision
from labctl.engine.provision import Login
from labctl.engine.provisioning import Result
from labctl.model.projects import Entry, provisioned
from labctl.model.secret import Secret

CANARY = "canary-7c1e-bird"
SERVICES = "services: {postgres: {}, kafka: {}, mlflow: {}}\n"
LAB = f"name: shop\ntarget: {{sandbox: {{guests: container}}}}\n{SERVICES}"
DATABASE = Result(
    "postgres",
    "shop",
    "projects/postgres/shop",
    ("role shop made", "database orders made"),
    {"url": "postgresql://shop@198.18.86.202:5432/orders", "database": "orders"},
    "project-postgres-shop",
    {"user": Secret("shop"), "password": Secret(CANARY)},
)
TOPIC = Result("kafka", "orders", "projects/kafka/orders", (), {"bootstrap": "198.18.86.202:9092", "partitions": "3"})
WANTED = ("provision", "postgres", "--user", "shop", "--database", "orders")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "lab.yaml").write_text(LAB)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(provision, "provision_postgres", lambda *_: DATABASE)
    monkeypatch.setattr(provision, "provision_kafka", lambda *_, **__: TOPIC)
    login = Login(Secret("role-id"), Secret("s.token"), 3600, "https://192.0.2.2:8200")
    monkeypatch.setattr(provision, "project_login", lambda *_: login)
    return tmp_path


def ran(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        main(args)
    said = capsys.readouterr()
    return int(end.value.code or 0), said.out, said.err


def test_it_says_where_the_credentials_lie_and_not_what_they_are(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = ran(capsys, *WANTED)
    assert code == 0
    assert out.splitlines()[:2] == ["role shop made", "database orders made"]
    assert "`labctl secrets get projects/postgres/shop`" in out
    assert "AppRole project-postgres-shop" in out
    assert CANARY not in out
    assert "s.token" not in out


def test_values_come_when_they_are_asked_for(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ran(capsys, *WANTED, "--show")[1]
    assert f"password = {CANARY}\n" in out
    assert "s.token" not in out
    out = ran(capsys, *WANTED, "--login")[1]
    assert "role_id = role-id\nwrapping_token = s.token\n" in out
    assert CANARY not in out


def test_what_programs_read(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document: dict[str, Any] = json.loads(ran(capsys, *WANTED, "--json")[1])
    assert document == {
        "kind": "postgres",
        "name": "shop",
        "path": "projects/postgres/shop",
        "role": "project-postgres-shop",
        "changes": ["role shop made", "database orders made"],
        "url": "postgresql://shop@198.18.86.202:5432/orders",
        "database": "orders",
    }
    document = json.loads(ran(capsys, *WANTED, "--json", "--show", "--login")[1])
    assert document["credentials"] == {"user": "shop", "password": CANARY}
    assert document["login"] == {
        "vault": "https://192.0.2.2:8200",
        "role_id": "role-id",
        "wrapping_token": "s.token",
        "ttl_s": 3600,
    }


def test_what_has_no_credentials_says_nothing_of_any(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = ran(capsys, "provision", "kafka", "--topic", "orders", "--partitions", "3")
    assert (code, out.splitlines()[0]) == (0, "Nothing to do: all of it is there.")
    assert "credentials" not in out
    assert "bootstrap: 198.18.86.202:9092" in out
    assert json.loads(ran(capsys, "provision", "kafka", "--topic", "orders", "--json")[1])["role"] == ""


def test_the_list(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    paths = ("projects/postgres/shop", "projects/postgres/shop/orders", "projects/bucket/data")
    entries = provisioned(Entry(path, "2026-01-01T00:00:00Z") for path in paths)
    monkeypatch.setattr(provision, "list_provisioned", lambda *_: entries)
    out = ran(capsys, "provision", "list")[1]
    assert [line.split() for line in out.splitlines()] == [
        ["postgres", "shop", "orders", "projects/postgres/shop"],
        ["bucket", "data", "projects/bucket/data"],
    ]
    document = json.loads(ran(capsys, "provision", "list", "--json")[1])
    assert [one["name"] for one in document["provisioned"]] == ["shop", "data"]
    monkeypatch.setattr(provision, "list_provisioned", lambda *_: ())
    assert ran(capsys, "provision", "list")[1] == "Nothing was provisioned yet.\n"


# ------------------------------------------------------------ refused before anything is asked


@pytest.mark.parametrize(
    ("words", "said", "hint"),
    [
        (("postgres", "--user", "x'; DROP", "--database", "d"), "is no name for a user", "For example 'x_drop'"),
        (("postgres", "--user", "shop", "--database", 'd"'), "is no name for a database", "Allowed: "),
        (("postgres", "--user", "postgres", "--database", "d"), "'postgres' is PostgreSQL's superuser", "another name"),
        (("kafka", "--topic", "a b"), "is no name for a topic", "For example 'a-b'"),
        (("kafka", "--topic", "a", "--group", "g;h"), "is no name for a consumer group", "For example 'g-h'"),
        (("kafka", "--topic", "a", "--partitions", "0"), "cannot have 0 partitions", "from 1 to"),
        (("ollama", "--model", "a b"), "is no name for a model", "Allowed: "),
        (("ollama", "--model", "tiny"), "service ollama is off", "`ollama: {}` under services"),
        (("bucket", "mlflow"), "the lab's own bucket", "another name"),
        (("bucket", "A"), "is no name for a bucket", "3 to 63"),
        (("bucket", "data"), "layer foundation is not up", "`labctl up`"),
        (("postgres", "--user", "shop", "--database", "orders"), "layer foundation is not up", "`labctl up`"),
        (("list",), "layer foundation is not up", "`labctl up`"),
    ],
)
def test_what_cannot_be_is_refused_with_a_way_out(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    said: str,
    hint: str,
) -> None:
    (tmp_path / "lab.yaml").write_text(LAB)
    monkeypatch.chdir(tmp_path)
    code, out, err = ran(capsys, "provision", *words)
    assert (code, out) == (1, "")
    assert said in err
    assert hint in err
    code, out, _ = ran(capsys, "provision", *words, "--json")
    assert code == 1
    assert said in json.loads(out)["text"]


def test_appliances_run_no_services(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lab.yaml").write_text(LAB.replace("container", "appliance"))
    monkeypatch.chdir(tmp_path)
    assert "runs no services" in ran(capsys, *WANTED)[2]
