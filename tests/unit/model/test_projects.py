"""Names of what is provisioned, where it is kept, and who may read it."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.model.catalogue import OPERATOR
from labctl.model.errors import UserError
from labctl.model.lab import BucketName, Lab
from labctl.model.projects import (
    BUCKET,
    DATABASE,
    GROUP,
    MODEL,
    TOPIC,
    USER,
    Entry,
    NameRule,
    checked,
    checked_bucket,
    checked_database,
    checked_model,
    checked_topic,
    checked_user,
    project_approle,
    project_path,
    project_policy,
    project_reader,
    provisioned,
)
from labctl.model.vaultroles import policies

LAB = Lab.model_validate(
    {
        "name": "lab",
        "target": {"sandbox": {"guests": "container"}},
        "services": {"postgres": {"superuser": "boss"}, "mlflow": {"database": "tracking"}},
    }
)
RULES = (USER, DATABASE, TOPIC, GROUP, MODEL, BUCKET)
NASTY = [
    "",
    " ",
    "a b",
    "a;b",
    "a'b",
    'a"b',
    "a\\b",
    "a\nb",
    "a\n",
    "-a",
    "a$b",
    "a`b",
    "a\0b",
    "é",
    "../a",
    "a..b",
    "a#b",
    "a,b",
    "x" * 301,
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.what)
@pytest.mark.parametrize("name", NASTY)
def test_what_could_mean_something_else_is_no_name(rule: NameRule, name: str) -> None:
    with pytest.raises(UserError, match="is no name for") as told:
        checked(rule, name)
    assert "Allowed: " in told.value.hint


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.what)
@given(text=st.text(max_size=70))
def test_a_name_has_nothing_in_it_that_a_shell_sql_or_a_path_takes_for_more(rule: NameRule, text: str) -> None:
    if rule.fits(text):
        assert re.fullmatch(r"[A-Za-z0-9._:/-]+", text)
        assert not text.startswith(("-", ".", "/"))
        assert ".." not in text
        assert "//" not in text
        assert rule is MODEL or "/" not in text
    suggested = rule.suggested(text)
    assert not suggested or rule.fits(suggested)


@pytest.mark.parametrize(
    ("rule", "name", "near"),
    [
        (USER, "Shop-Orders", "shop_orders"),
        (USER, "2nd", "p_2nd"),
        (DATABASE, "orders; drop", "orders_drop"),
        (TOPIC, "new orders", "new-orders"),
        (BUCKET, "My_Data", "my-data"),
    ],
)
def test_the_nearest_name_is_told(rule: NameRule, name: str, near: str) -> None:
    with pytest.raises(UserError) as told:
        checked(rule, name)
    assert f"For example {near!r}." in told.value.hint


@pytest.mark.parametrize("name", ["postgres", "boss", "tracking", "pg_monitor", "public", "none"])
def test_roles_that_are_somebodys_are_refused(name: str) -> None:
    with pytest.raises(UserError, match=repr(name)):
        checked_user(LAB, name)
    assert checked_user(LAB, "shop") == "shop"


@pytest.mark.parametrize("name", ["postgres", "template0", "template1", "tracking"])
def test_databases_that_are_somebodys_are_refused(name: str) -> None:
    with pytest.raises(UserError, match=repr(name)):
        checked_database(LAB, name)
    assert checked_database(LAB, "orders") == "orders"


def test_the_labs_own_buckets_and_kafkas_own_topics_are_refused() -> None:
    with pytest.raises(UserError, match=r"the lab's own bucket.*store/mlflow"):
        checked_bucket(LAB, "mlflow")
    with pytest.raises(UserError, match="Kafka keeps for itself"):
        checked_topic("__consumer_offsets")
    assert checked_topic("_schemas") == "_schemas"
    assert checked_topic("Orders.v1-raw_2") == "Orders.v1-raw_2"


@pytest.mark.parametrize("name", ["ab", "a" * 64, "a-", "-a", "a.b"])
def test_a_bucket_has_the_same_rule_as_in_the_labs_description(name: str) -> None:
    (rule,) = BucketName.__metadata__  # type: ignore[attr-defined]
    assert not re.search(rule.pattern, name)
    assert not BUCKET.fits(name)
    assert BUCKET.fits("a1-b")


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("llama3.2", "llama3.2:latest"),
        ("llama3.2:1b", "llama3.2:1b"),
        ("hf.co/owner/model:Q4_K_M", "hf.co/owner/model:Q4_K_M"),
        ("localhost:5000/team/model", "localhost:5000/team/model:latest"),
    ],
)
def test_a_model_has_a_tag(name: str, full: str) -> None:
    assert checked_model(name) == full


# ------------------------------------------------------------ rights


def test_a_project_reads_its_own_credentials_and_nothing_else() -> None:
    rules = json.loads(project_policy("postgres", "shop"))["path"]
    assert rules == {
        "lab/data/projects/postgres/shop": {"capabilities": ["read"]},
        "lab/data/projects/postgres/shop/+": {"capabilities": ["read"]},
        "lab/metadata/projects/postgres/shop/": {"capabilities": ["list"]},
    }
    assert json.loads(project_policy("bucket", "data"))["path"] == {"lab/data/projects/bucket/data": {"capabilities": ["read"]}}
    role = project_approle("postgres", "shop")
    assert (role.name, role.policies) == ("project-postgres-shop", ("project-postgres-shop",))
    assert 0 < role.token_ttl_s <= 3600
    assert 0 < role.secret_id_ttl_s <= 30 * 24 * 3600


def test_labctl_may_write_the_policies_of_projects_and_no_other_new_ones() -> None:
    document = json.loads(policies(LAB)[OPERATOR])["path"]
    written = {path for path in document if path.startswith("sys/policies/acl/")}
    assert written == {f"sys/policies/acl/{name}" for name in ("", "guest-*", "project-*", "labctl", "provider", "drift")}
    assert document["sys/policies/acl/"] == {"capabilities": ["list"]}
    assert document["sys/policies/acl/project-*"] == {"capabilities": ["create", "read", "update"]}


@pytest.mark.parametrize(
    ("path", "role"),
    [
        ("projects/postgres/shop", "project-postgres-shop"),
        ("projects/postgres/shop/orders", "project-postgres-shop"),
        ("projects/bucket/data", "project-bucket-data"),
        ("projects/kafka/orders", ""),
        ("projects/ollama/a:latest", ""),
        ("projects/postgres", ""),
        ("store/data", ""),
    ],
)
def test_who_reads_what_lies_where(path: str, role: str) -> None:
    assert project_reader(path) == role


# ------------------------------------------------------------ listing


def test_the_list_is_made_from_paths_alone() -> None:
    paths = [
        project_path("bucket", "data"),
        project_path("ollama", "hf.co/owner/model:q4"),
        project_path("kafka", "orders"),
        project_path("kafka", "orders", "billing"),
        project_path("kafka", "orders", "audit"),
        project_path("postgres", "shop"),
        project_path("postgres", "shop", "orders"),
        "projects/unknown/thing",
        "projects/kafka",
        "store/root",
    ]
    found = provisioned(Entry(path, "2026-01-01T00:00:00Z") for path in paths)
    assert [(one.kind, one.name, one.parts) for one in found] == [
        ("postgres", "shop", ("orders",)),
        ("kafka", "orders", ("audit", "billing")),
        ("ollama", "hf.co/owner/model:q4", ()),
        ("bucket", "data", ()),
    ]
    assert found[0].as_dict() == {
        "kind": "postgres",
        "name": "shop",
        "databases": ["orders"],
        "path": "projects/postgres/shop",
        "role": "project-postgres-shop",
        "updated": "2026-01-01T00:00:00Z",
        "deleted": False,
    }


def test_what_was_deleted_is_told_as_such() -> None:
    entries = [
        Entry("projects/kafka/orders", "now"),
        Entry("projects/kafka/orders/gone", "now", deleted=True),
        Entry("projects/bucket/data", "now", deleted=True),
    ]
    topic, bucket = provisioned(entries)
    assert topic.parts == ()
    assert bucket.deleted
