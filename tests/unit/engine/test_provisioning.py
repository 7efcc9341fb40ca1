"""Provisioning looks first, may be cut off anywhere, and takes over nothing."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from labctl.adapters.compose import ShellError
from labctl.adapters.objectstore import Credentials
from labctl.adapters.objectstore import Denied as StoreDenied
from labctl.adapters.ollama import Ollama
from labctl.adapters.vault import Absent, CasMismatch, Deleted, Denied, keep
from labctl.engine import provisioning
from labctl.engine.provisioning import Result, Server, Store, ensure_bucket, ensure_database, ensure_model, ensure_topic
from labctl.model import projectsql
from labctl.model.catalogue import PASSWORD
from labctl.model.compose import ComposeService, ComposeState, Health, State
from labctl.model.errors import AdapterError, UserError
from labctl.model.secret import Secret
from labctl.sandbox.images.standins import ollama as standin
from tests.unit.sandbox.test_standins import served

SERVER = Server("198.18.86.202", 5432)


class Cut(Exception):
    """The run ends here."""


class Calls:
    """Counts what is done, and cuts the run off."""

    def __init__(self) -> None:
        self.count = 0
        self.cut_at: int | None = None

    def one(self) -> None:
        self.count += 1
        if self.count == self.cut_at:
            raise Cut


class FakeVault:
    """A Vault's KV mount, with check-and-set."""

    address = "https://192.0.2.2:8200"

    def __init__(self, calls: Calls | None = None) -> None:
        self.held: dict[str, tuple[int, dict[str, Secret]]] = {}
        self.deleted: set[str] = set()
        self.granted: list[str] = []
        self._calls = calls or Calls()
        self._lock = threading.Lock()

    def read(self, path: str) -> tuple[int, dict[str, Secret]]:
        if path in self.deleted:
            raise Deleted("was deleted")
        with self._lock:
            if path not in self.held:
                raise Absent("there is none")
            return self.held[path]

    def write(self, path: str, data: Mapping[str, Secret], cas: int) -> int:
        self._calls.one()
        with self._lock:
            version = self.held.get(path, (0, {}))[0]
            if version != cas:
                raise CasMismatch("another version")
            self.held[path] = (version + 1, dict(data))
            return version + 1


@pytest.fixture(autouse=True)
def rights(monkeypatch: pytest.MonkeyPatch) -> None:
    def grant(vault: FakeVault, desired: Any) -> tuple[str, ...]:
        (name,) = desired.policies
        new = name not in vault.granted
        vault.granted += [name] if new else []
        return (f"policy {name} written",) if new else ()

    monkeypatch.setattr(provisioning, "bootstrap", grant)


class FakeEngine:
    """Services that answer as PostgreSQL and Kafka do."""

    def __init__(self, calls: Calls | None = None, state: State = "running", health: Health = "healthy") -> None:
        self.state, self.health = state, health
        self.roles: dict[str, str] = {}
        self.databases: dict[str, str] = {}
        self.topics: dict[str, int] = {}
        self.places: dict[str, dict[str, set[int]]] = {}
        self.active: set[str] = set()
        self.seen: list[str] = []
        self.says_no = ""
        self.group_says = ""
        self._calls = calls or Calls()
        self._lock = threading.Lock()

    def found(self, name: str) -> ComposeState:
        service = ComposeService("image", "", "", self.state, self.health, "")
        return ComposeState({} if self.state == "missing" else {name: service})

    def execute(
        self, project: str, _service: str, argv: Sequence[str], *, stdin: str = "", env: Mapping[str, Secret] | None = None
    ) -> str:
        self._calls.one()
        self.seen += [*argv, stdin]
        if self.says_no:
            raise ShellError(self.says_no, code=1, where="ssh://ops@198.18.86.202")
        with self._lock:
            return self._sql(argv, stdin, env or {}) if project == "postgres" else self._kafka(argv)

    def _sql(self, argv: Sequence[str], sql: str, env: Mapping[str, Secret]) -> str:
        given = dict(word.removeprefix("--set=").split("=", 1) for word in argv if word.startswith("--set="))
        role, database = given["role"], given["database"]
        owner = self.databases.get(database)
        if sql == projectsql.LOOK:
            return json.dumps({"role": role in self.roles, "owner": owner})
        made = {"role": role not in self.roles, "database": owner is None}
        if owner in (None, role):
            self.roles[role] = env[projectsql.VERIFIER].reveal()
            self.databases[database] = role
        return json.dumps(made | {"owner": self.databases[database]})

    def _kafka(self, argv: Sequence[str]) -> str:
        flags = {word: argv[i + 1] if i + 1 < len(argv) else "" for i, word in enumerate(argv) if word.startswith("--")}
        topic = flags.get("--topic", "").replace("\\.", ".")
        if "--create" in flags:
            new = topic not in self.topics
            self.topics.setdefault(topic, int(flags.get("--partitions", 1)))
            return f"Created topic {topic}.\n" if new else ""
        if "--alter" in flags:
            self.topics[topic] = int(flags["--partitions"])
        elif "--reset-offsets" in flags:
            topic, _, which = topic.rpartition(":")
            self.places.setdefault(flags["--group"], {}).setdefault(topic, set()).update(map(int, which.split(",")))
        elif "--group" in flags:
            return self._group(flags["--group"])
        elif topic in self.topics:
            return f"Topic: {topic}\tTopicId: x\tPartitionCount: {self.topics[topic]}\tReplicationFactor: 1\tConfigs: \n"
        return ""

    def _group(self, group: str) -> str:
        if group not in self.places and group not in self.active:
            return (
                f"\nError: Executing consumer group command failed due to a.GroupIdNotFoundException: Group {group} not found.\n"
            )
        if self.group_says:
            return f"\nError: Executing consumer group command failed due to a.TimeoutException: {self.group_says}\n"
        who = "consumer-1" if group in self.active else "-"
        lines = ["GROUP TOPIC PARTITION CURRENT-OFFSET LOG-END-OFFSET LAG CONSUMER-ID HOST CLIENT-ID"]
        for topic, partitions in self.places.get(group, {"orders": set()}).items():
            lines += [f"{group} {topic} {number} 0 0 0 {who} - -" for number in sorted(partitions)]
            lines += [f"{group} {topic} 0 - 0 - {who} /10.0.0.1 c"] if not partitions else []
        return "\n".join(lines)


def database(vault: FakeVault, engine: FakeEngine, user: str = "shop", name: str = "orders") -> Result:
    return ensure_database(vault, engine, user, name, "postgres", SERVER)  # type: ignore[arg-type]


def topic(vault: FakeVault, engine: FakeEngine, name: str = "orders", **options: Any) -> Result:
    return ensure_topic(vault, engine, name, Server("198.18.86.202", 9092), **options)  # type: ignore[arg-type]


# ------------------------------------------------------------ PostgreSQL


def test_a_second_time_the_credentials_are_the_same_and_there_is_nothing_to_do() -> None:
    vault, engine = FakeVault(), FakeEngine()
    first, second = database(vault, engine), database(vault, engine)
    assert first.changes == ("role shop made", "database orders made", "policy project-postgres-shop written")
    assert second.changes == ()
    assert first.credentials == second.credentials
    assert set(first.credentials) == {"user", "password", "host", "port"}
    assert first.facts["url"] == "postgresql://shop@198.18.86.202:5432/orders"
    assert set(vault.held) == {"projects/postgres/shop", "projects/postgres/shop/orders"}
    assert {version for version, _ in vault.held.values()} == {1}


def test_another_database_of_a_user_has_the_same_credentials() -> None:
    vault, engine = FakeVault(), FakeEngine()
    first, second = database(vault, engine), database(vault, engine, name="stock")
    assert second.changes == ("database stock made",)
    assert first.credentials["password"] == second.credentials["password"]


def test_a_service_that_has_moved_is_written_down_and_the_password_stays() -> None:
    vault, engine = FakeVault(), FakeEngine()
    first = database(vault, engine)
    moved = ensure_database(vault, engine, "shop", "orders", "postgres", Server("192.0.2.9", 5433))  # type: ignore[arg-type]
    assert moved.credentials["host"].reveal() == "192.0.2.9"
    assert moved.credentials["password"] == first.credentials["password"]


def test_the_server_is_told_no_password() -> None:
    vault, engine = FakeVault(), FakeEngine()
    password = database(vault, engine).credentials["password"].reveal()
    assert not [word for word in engine.seen if password in word or "SCRAM" in word]
    assert engine.roles["shop"].startswith("SCRAM-SHA-256$")


@pytest.mark.parametrize("cut_at", range(1, 6))
def test_cut_off_anywhere_the_next_run_ends_well(cut_at: int) -> None:
    calls = Calls()
    vault, engine = FakeVault(calls), FakeEngine(calls)
    calls.cut_at = cut_at
    try:
        database(vault, engine)
    except Cut:
        held = vault.held.get("projects/postgres/shop")
        assert engine.roles == {} or held, "a role whose password nobody has"
    else:
        assert cut_at == 5
    calls.cut_at = None
    before = dict(vault.held)
    again = database(vault, engine)
    assert vault.granted == ["project-postgres-shop"]
    assert (engine.roles.keys(), engine.databases) == ({"shop"}, {"orders": "shop"})
    for path, kept in before.items():
        assert vault.held[path] == kept
    assert again.credentials["user"].reveal() == "shop"


def test_two_at_once_get_the_same_credentials() -> None:
    vault, engine = FakeVault(), FakeEngine()
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: database(vault, engine), range(8)))
    assert len({result.credentials["password"].reveal() for result in found}) == 1
    assert vault.held["projects/postgres/shop"][0] == 1


def test_a_role_or_database_of_somebody_else_is_left_alone() -> None:
    vault, engine = FakeVault(), FakeEngine()
    engine.roles["shop"] = "somebody's"
    with pytest.raises(UserError, match="labctl did not make it"):
        database(vault, engine)
    engine.roles.clear()
    engine.databases["orders"] = "accounts"
    with pytest.raises(UserError, match="belongs to 'accounts'"):
        database(vault, engine)
    assert not vault.held
    assert engine.roles == {}


def test_a_database_that_somebody_made_meanwhile_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    vault, engine = FakeVault(), FakeEngine()
    real = keep

    def slow(*arguments: Any) -> Any:
        engine.databases.setdefault("orders", "accounts")
        return real(*arguments)

    monkeypatch.setattr(provisioning, "keep", slow)
    with pytest.raises(UserError, match="belongs to 'accounts'"):
        database(vault, engine)
    assert engine.roles == {}
    assert "projects/postgres/shop/orders" not in vault.held


@pytest.mark.parametrize(
    ("state", "health", "said"),
    [("missing", "none", "is not up"), ("exited", "none", "is exited"), ("running", "unhealthy", "is unhealthy")],
)
def test_a_service_that_is_not_up_is_named_before_anything_is_done(state: State, health: Health, said: str) -> None:
    for ensure in (database, topic):
        vault, engine = FakeVault(), FakeEngine(state=state, health=health)
        with pytest.raises(UserError, match=said) as told:
            ensure(vault, engine)
        assert "labctl up --layer services" in told.value.hint
        assert not vault.held
        assert not engine.seen


def test_credentials_that_were_deleted_by_hand_are_not_made_anew() -> None:
    vault, engine = FakeVault(), FakeEngine()
    vault.deleted.add("projects/postgres/shop")
    with pytest.raises(Deleted):
        database(vault, engine)
    assert engine.roles == {}


def test_a_labctl_without_the_right_says_how_it_gets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> tuple[str, ...]:
        raise Denied("permission denied", where="https://192.0.2.2:8200")

    monkeypatch.setattr(provisioning, "bootstrap", refuse)
    vault, engine = FakeVault(), FakeEngine()
    with pytest.raises(UserError) as told:
        database(vault, engine)
    assert "`labctl up --layer foundation`" in told.value.hint
    assert not vault.held
    assert engine.roles == {}


# ------------------------------------------------------------ Kafka


def test_a_topic_and_its_group_are_made_once() -> None:
    vault, engine = FakeVault(), FakeEngine()
    first = topic(vault, engine, partitions=3, group="billing")
    assert first.changes[0] == "topic orders made"
    assert engine.topics == {"orders": 3}
    assert engine.places == {"billing": {"orders": {0, 1, 2}}}
    assert topic(vault, engine, partitions=3, group="billing").changes == ()
    assert topic(vault, engine).changes == ()
    assert set(vault.held) == {"projects/kafka/orders", "projects/kafka/orders/billing"}
    assert first.role == ""
    assert first.facts == {"bootstrap": "198.18.86.202:9092", "partitions": 3}


def test_partitions_are_added_when_asked_for_and_never_taken_away() -> None:
    vault, engine = FakeVault(), FakeEngine()
    topic(vault, engine, partitions=3, group="billing")
    with pytest.raises(UserError, match="has 3 partitions, not 5") as told:
        topic(vault, engine, partitions=5)
    assert "--more adds 2" in told.value.hint
    for more in (False, True):
        with pytest.raises(UserError, match="has 3 partitions, more than 2"):
            topic(vault, engine, partitions=2, more=more)
    assert engine.topics == {"orders": 3}
    assert topic(vault, engine, partitions=5, more=True, group="billing").changes == (
        "topic orders has 5 partitions now, 2 more",
        "consumer group billing begins at the beginning of orders",
    )
    assert engine.places == {"billing": {"orders": {0, 1, 2, 3, 4}}}


def test_a_name_with_a_dot_is_that_name_and_no_pattern() -> None:
    vault, engine = FakeVault(), FakeEngine()
    engine.topics["aXb"] = 7
    topic(vault, engine, "a.b")
    assert engine.topics == {"aXb": 7, "a.b": 1}
    described = [word for word in engine.seen if word.startswith("a")]
    assert r"a\.b" in described


def test_a_group_in_use_keeps_its_place() -> None:
    vault, engine = FakeVault(), FakeEngine()
    engine.topics["orders"] = 2
    engine.active.add("billing")
    assert topic(vault, engine, group="billing").changes == ("consumer group billing recorded",)
    assert engine.places == {}


@pytest.mark.parametrize("cut_at", range(1, 8))
def test_cut_off_anywhere_the_next_run_makes_the_topic_whole(cut_at: int) -> None:
    calls = Calls()
    vault, engine = FakeVault(calls), FakeEngine(calls)
    calls.cut_at = cut_at
    try:
        topic(vault, engine, partitions=3, group="billing")
    except Cut:
        assert "projects/kafka/orders" not in vault.held or engine.topics
    else:
        assert cut_at == 7
    calls.cut_at = None
    topic(vault, engine, partitions=3, group="billing")
    assert engine.topics == {"orders": 3}
    assert engine.places == {"billing": {"orders": {0, 1, 2}}}
    assert set(vault.held) == {"projects/kafka/orders", "projects/kafka/orders/billing"}


def test_kafka_that_does_not_answer_leaves_nothing_half_done() -> None:
    vault, engine = FakeVault(), FakeEngine()
    engine.says_no = (
        "[2026-01-01 00:00:00,000] ERROR a.TimeoutException: Timed out waiting for a node assignment. Call: listTopics"
    )
    with pytest.raises(AdapterError, match=r"Kafka says: Timed out waiting for a node assignment\. Call: listTopics$") as told:
        topic(vault, engine)
    assert "labctl logs kafka" in told.value.hint
    assert not vault.held
    engine.says_no = ""
    assert topic(vault, engine).changes == ("topic orders made",)


def test_a_group_that_cannot_be_asked_about_is_not_put_anywhere() -> None:
    """Its places would be lost: Kafka's program ends with 0 there."""
    vault, engine = FakeVault(), FakeEngine()
    engine.topics["orders"] = 2
    engine.places["billing"] = {"orders": {0}}
    engine.group_says = "Timed out waiting for a node assignment."
    with pytest.raises(AdapterError, match="Kafka says: Timed out"):
        topic(vault, engine, group="billing")
    assert engine.places == {"billing": {"orders": {0}}}
    assert not vault.held


# ------------------------------------------------------------ Ollama


def test_a_model_is_fetched_once(tmp_path: Path) -> None:
    vault, said = FakeVault(), list[str]()
    with served(standin.made(standin.Models(tmp_path / "names.json"), "0.1", 0, "127.0.0.1")) as url:
        ollama = Ollama(url)
        assert ensure_model(vault, ollama, "tiny:1b", said.append).changes == ("model tiny:1b fetched",)  # type: ignore[arg-type]
        assert ensure_model(vault, ollama, "tiny:1b", said.append).changes == ()  # type: ignore[arg-type]
        ollama.close()
    assert set(vault.held) == {"projects/ollama/tiny:1b"}
    assert "pulling manifest" in said


# ------------------------------------------------------------ buckets


class FakeStore:
    """An object store that knows the key pairs that it was last started with."""

    def __init__(self, vault: FakeVault, calls: Calls | None = None) -> None:
        self.made: set[str] = set()
        self.known: set[str] = {"root"}
        self.starts = 0
        self._vault = vault
        self._calls = calls or Calls()
        self._lock = threading.RLock()

    def deliver(self) -> bool:
        self._calls.one()
        identities = {"root"} | {data["access_key"].reveal() for _, data in self._vault.held.values()}
        if identities == self.known:
            return False
        self.known = identities
        self.starts += 1
        return True

    @contextmanager
    def alone(self) -> Iterator[None]:
        with self._lock:
            yield

    def as_pair(self, pair: Credentials) -> Any:
        return Connection(self, pair.access_key.reveal(), self._calls)

    def store(self) -> Store:
        root = Credentials(Secret("root"), Secret("root"))
        return Store(self.as_pair, root, self.alone, self.deliver, "https://192.0.2.3:9000", "eu-west-1")


class Connection:
    """A store with a key."""

    def __init__(self, store: FakeStore, key: str, calls: Calls) -> None:
        self._store, self._key, self._calls = store, key, calls

    def buckets(self) -> tuple[str, ...]:
        if self._key not in self._store.known:
            raise StoreDenied("unknown")
        return tuple(self._store.made)

    def wait_ready(self, _patience_s: float) -> None:
        self.buckets()

    def ensure_bucket(self, name: str, *, versioned: bool) -> bool:
        self._calls.one()
        new = name not in self._store.made
        self._store.made.add(name)
        return new


def bucket(vault: FakeVault, store: FakeStore, name: str = "data") -> Result:
    return ensure_bucket(vault, store.store(), name)  # type: ignore[arg-type]


def test_a_bucket_is_made_once_and_the_store_started_again_once() -> None:
    vault = FakeVault()
    store = FakeStore(vault)
    first, second = bucket(vault, store), bucket(vault, store)
    assert first.changes == (
        "the object store's credentials delivered",
        "bucket data made",
        "policy project-bucket-data written",
    )
    assert second.changes == ()
    assert first.credentials == second.credentials
    assert set(first.credentials) == {"access_key", "secret_key", "bucket", "endpoint", "region"}
    assert store.starts == 1


def test_a_bucket_of_somebody_else_is_left_alone() -> None:
    vault = FakeVault()
    store = FakeStore(vault)
    store.made.add("data")
    with pytest.raises(UserError, match="was not provisioned"):
        bucket(vault, store)
    assert not vault.held
    assert store.starts == 0


@pytest.mark.parametrize("cut_at", range(1, 5))
def test_cut_off_anywhere_the_next_run_makes_the_bucket(cut_at: int) -> None:
    calls = Calls()
    vault = FakeVault(calls)
    store = FakeStore(vault, calls)
    calls.cut_at = cut_at
    try:
        bucket(vault, store)
    except Cut:
        assert vault.held or not store.made
    else:
        assert cut_at == 4
    calls.cut_at = None
    before = dict(vault.held)
    bucket(vault, store)
    assert store.made == {"data"}
    assert not before or before == vault.held


def test_two_buckets_at_once_are_both_known_in_the_end() -> None:
    vault = FakeVault()
    store = FakeStore(vault)
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda name: bucket(vault, store, name), ["one", "two"] * 3))
    assert store.made == {"one", "two"}
    assert len({result.credentials["secret_key"].reveal() for result in found}) == 2
    for result in found:
        assert result.credentials["access_key"].reveal() in store.known


# ------------------------------------------------------------ what is kept


def test_what_is_kept_is_completed_and_never_written_over() -> None:
    vault = FakeVault()
    vault.held["path"] = (3, {"note": Secret("mine")})
    kept = keep(vault, "path", {"password": PASSWORD}, {"host": "a"})  # type: ignore[arg-type]
    assert (kept.version, kept.written) == (4, True)
    again = keep(vault, "path", {"password": PASSWORD}, {"host": "a"})  # type: ignore[arg-type]
    assert (again.version, again.written) == (4, False)
    assert again.data == kept.data
    assert kept.data["note"].reveal() == "mine"


def test_a_note_that_was_deleted_is_written_again(monkeypatch: pytest.MonkeyPatch) -> None:
    vault = FakeVault()
    vault.held["path"] = (2, {"topic": Secret("orders")})
    vault.deleted.add("path")
    monkeypatch.setattr(Deleted, "version", 2)
    kept = keep(vault, "path", {}, {"topic": "orders"})  # type: ignore[arg-type]
    assert (kept.version, kept.written) == (3, True)


def test_somebody_who_writes_all_the_time_does_not_hold_it_up_for_ever() -> None:
    vault = FakeVault()

    def read(_path: str) -> tuple[int, dict[str, Secret]]:
        return 99, {}

    vault.read = read  # type: ignore[method-assign]
    with pytest.raises(AdapterError, match="all the time"):
        keep(vault, "path", {"password": PASSWORD}, {})  # type: ignore[arg-type]
