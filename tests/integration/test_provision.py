"""Provisioning in the real PostgreSQL and Kafka, as their Compose files run them, and in a real OpenBao."""

from __future__ import annotations

import os
import secrets
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from labctl.adapters.compose import ComposeEngine, LocalShell
from labctl.adapters.keys import generate_identity
from labctl.adapters.objectstore import Denied as StoreDenied
from labctl.adapters.ollama import Ollama
from labctl.adapters.vault import Denied, Vault
from labctl.engine.provisioning import Result, Server, Store, ensure_bucket, ensure_database, ensure_model, ensure_topic
from labctl.engine.steps.store import bucket_credentials, store_access
from labctl.model import projectsql, projecttopics
from labctl.model.compose import ComposeProject, ComposeState
from labctl.model.errors import AdapterError, UserError
from labctl.model.labfile import parse_lab
from labctl.model.projects import PROJECT_WRAPPING_TTL_S, Entry, provisioned
from labctl.model.secret import Secret
from labctl.sandbox.choice import look
from labctl.sandbox.images.build import ensure_images
from labctl.sandbox.images.catalogue import IMAGES
from labctl.sandbox.images.standins import ollama as standin
from labctl.sandbox.images.store import image_store
from labctl.services import ServiceRequest, compose_text
from tests.dockercompose import programs
from tests.e2e.canary import Canary, CommandLines, Search, Watch
from tests.integration.test_objectstore_seaweed import ENDPOINT, REGION
from tests.integration.test_objectstore_seaweed import Store as Weed
from tests.integration.vault.conftest import WORKER, Bench
from tests.integration.vault.conftest import Server as Bao
from tests.mlserving import free_port
from tests.needs import lacking
from tests.servedimages import served_images
from tests.unit.sandbox.test_standins import served

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("sandbox-images")]

PREFIX = f"labctl-prov-{secrets.token_hex(3)}"
NAMES = ("postgres", "kafka")


class Prefixed(ComposeEngine):
    """The engine of this machine, where the services have names of their own."""

    def found(self, name: str) -> ComposeState:
        return super().found(f"{PREFIX}-{name}")

    def execute(
        self,
        project: str,
        service: str,
        argv: Sequence[str],
        *,
        stdin: str = "",
        env: Mapping[str, Secret] | None = None,
        timeout_s: float = 120.0,
    ) -> str:
        return super().execute(f"{PREFIX}-{project}", service, argv, stdin=stdin, env=env, timeout_s=timeout_s)


@dataclass
class Services:
    """What runs."""

    engine: Prefixed
    docker: str
    kafka_port: int
    coming: Future[None]

    def run(self, *words: str, stdin: str = "", **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.docker, *words], input=stdin, capture_output=True, text=True, timeout=60, check=False, env={**os.environ, **env}
        )

    def container(self, name: str) -> str:
        return f"{PREFIX}-{name}-{name}-1"

    def sql(self, user: str, password: str, database: str, text: str) -> tuple[int, str]:
        """As a client over TCP, who needs a password."""
        words = ("exec", "-i", "-e", "PGPASSWORD", self.container("postgres"), "psql", "-XAtq", "-h", "127.0.0.1")
        done = self.run(*words, "-U", user, "-d", database, stdin=text, PGPASSWORD=password)
        return done.returncode, (done.stdout + done.stderr).strip()

    def root(self, text: str) -> str:
        words = (
            "exec",
            "-i",
            self.container("postgres"),
            "psql",
            "-XAtq",
            "-h",
            "/var/run/postgresql",
            "-U",
            "boss",
            "-d",
            "postgres",
        )
        done = self.run(*words, stdin=text)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def kafka(self, program: str, *words: str, stdin: str = "") -> str:
        server = ("--bootstrap-server", "localhost:29092")
        heap = ("-e", "KAFKA_HEAP_OPTS=-Xmx128m")
        done = self.run(
            "exec", "-i", *heap, self.container("kafka"), f"/opt/kafka/bin/{program}.sh", *server, *words, stdin=stdin
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def services() -> Iterator[Services]:
    facts = look()
    if not facts.engine:
        lacking(f"no Docker engine answers on {facts.socket}: start `dockerd`")
    if facts.builder:
        lacking(f"{facts.builder}: `apt-get install mmdebstrap`")
    path = programs()
    docker = str(path / "docker")
    ensure_images(NAMES, print)
    ports = {name: free_port() for name in NAMES}
    lab = parse_lab(
        "name: lab\ntarget: {sandbox: {guests: container}}\nservices:\n"
        f"  postgres: {{image: '{PREFIX}-postgres:1', port: {ports['postgres']}, superuser: boss, memory_mib: 512}}\n"
        f"  kafka: {{image: '{PREFIX}-kafka:1', port: {ports['kafka']}, heap_mib: 256, memory_mib: 1024, partitions: 2}}\n"
    )
    engine = Prefixed(LocalShell(path=[path]))

    def bring_up(name: str, registry: str) -> None:
        pulled = f"{registry}/lab/{name}:{IMAGES[name].version}"
        for words in (("pull", "-q", pulled), ("tag", pulled, f"{PREFIX}-{name}:1"), ("rmi", pulled)):
            subprocess.run([docker, *words], capture_output=True, timeout=120, check=True)
        spec = {spec.name: spec for spec in lab.service_specs()}[name]
        text = compose_text(ServiceRequest(lab, spec, "127.0.0.1")).replace("lab-", f"{PREFIX}-")
        # A lab has time to wait for the first question.
        for slow, quick in (
            ("interval: 10s", "interval: 1s"),
            ("retries: 5", "retries: 30"),
            ("start_period: 30s", "start_period: 0s"),
        ):
            text = text.replace(slow, quick)
        engine.apply(ComposeProject(f"{PREFIX}-{name}", text, {"POSTGRES_PASSWORD": Secret("superuser-word")}, Secret("key")))

    try:
        with served_images(image_store()) as registry, ThreadPoolExecutor() as pool:
            bring_up("postgres", registry)
            # Kafka takes longer: it comes up while PostgreSQL is at work.
            yield Services(engine, docker, ports["kafka"], pool.submit(bring_up, "kafka", registry))
    finally:
        for name in NAMES:
            subprocess.run([docker, "kill", f"{PREFIX}-{name}-{name}-1"], capture_output=True, timeout=60, check=False)
            engine.destroy(f"{PREFIX}-{name}", volumes=True)
            subprocess.run([docker, "rmi", f"{PREFIX}-{name}:1"], capture_output=True, timeout=60, check=False)


@pytest.fixture
def kafka(services: Services) -> Services:
    services.coming.result(120)
    return services


@pytest.fixture(scope="module")
def bao(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("bao")
    server = Bao(folder / "server", address=f"127.86.88.{80 + WORKER}")
    server.prepare()
    server.start()
    try:
        public = generate_identity(folder / "operator.key")
        lab = parse_lab("name: lab\ntarget: {sandbox: {guests: container}}\nservices: {postgres: {}}\n")
        yield Bench(server, folder / "lab", folder / "operator.key", public, lab)
    finally:
        server.stop()


@pytest.fixture(scope="module")
def vault(bao: Bench) -> Vault:
    return bao.ensure().client


def database(vault: Vault, services: Services, user: str, name: str) -> Result:
    return ensure_database(vault, services.engine, user, name, "boss", Server("198.18.86.202", 5432))


def topic(vault: Vault, services: Services, name: str, **options: object) -> Result:
    return ensure_topic(vault, services.engine, name, Server("127.0.0.1", services.kafka_port), **options)  # type: ignore[arg-type]


def password(result: Result) -> str:
    return result.credentials["password"].reveal()


# ------------------------------------------------------------ PostgreSQL


def test_a_project_works_in_its_own_database_and_in_no_other(vault: Vault, services: Services) -> None:
    shop, stock = database(vault, services, "shop", "orders"), database(vault, services, "stock", "goods")
    assert services.sql("shop", password(shop), "orders", "CREATE TABLE t (n int); SELECT count(*) FROM t") == (0, "0")
    code, said = services.sql("shop", password(stock), "orders", "SELECT 1")
    assert code != 0
    assert "password authentication failed" in said
    code, said = services.sql("shop", password(shop), "goods", "SELECT 1")
    assert code != 0
    assert "permission denied for database" in said
    again = database(vault, services, "shop", "orders")
    assert again.changes == ()
    assert again.credentials == shop.credentials
    assert services.sql("shop", password(again), "orders", "SELECT count(*) FROM t") == (0, "0")


def test_many_at_once_end_well_with_the_same_credentials(vault: Vault, services: Services) -> None:
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: database(vault, services, "crowd", "crowded"), range(4)))
    assert len({password(result) for result in found}) == 1
    assert sorted(change for result in found for change in result.changes if "made" in change) == [
        "database crowded made",
        "role crowd made",
    ]
    assert services.sql("crowd", password(found[0]), "crowded", "SELECT 1") == (0, "1")


def test_what_is_somebody_elses_stays_as_it_is(vault: Vault, services: Services) -> None:
    services.root("CREATE ROLE other; CREATE DATABASE theirs OWNER other;")
    with pytest.raises(UserError, match="labctl did not make it"):
        database(vault, services, "other", "theirs")
    with pytest.raises(UserError, match="belongs to 'other'"):
        database(vault, services, "fresh", "theirs")
    assert services.root("SELECT count(*) FROM pg_roles WHERE rolname = 'fresh'") == "0"
    # Somebody made it between the first look and this: nothing is done either.
    command = projectsql.psql("boss", "fresh", "theirs")
    said = services.engine.execute("postgres", "postgres", command, stdin=projectsql.MAKE, env={projectsql.VERIFIER: Secret("x")})
    assert projectsql.made(said).owner == "other"
    assert services.root("SELECT count(*) FROM pg_roles WHERE rolname = 'fresh'") == "0"


def test_a_name_that_nobody_has_checked_is_still_nothing_but_a_name(services: Services) -> None:
    name = 'it\'s "$(touch /tmp/x)"; DROP ROLE boss; -- \\ :role'
    verifier = projectsql.scram_verifier(Secret("word"), bytes(16))
    command = projectsql.psql("boss", name, name)
    said = services.engine.execute("postgres", "postgres", command, stdin=projectsql.MAKE, env={projectsql.VERIFIER: verifier})
    assert projectsql.made(said).owner == name
    assert services.sql(name, "word", name, "SELECT current_user") == (0, name)
    services.root(f'DROP DATABASE "{name.replace(chr(34), chr(34) * 2)}"')


def test_no_value_is_in_a_command_line_or_a_log(vault: Vault, services: Services, bao: Bench) -> None:
    services.root("ALTER SYSTEM SET log_statement = 'all'; SELECT pg_reload_conf();")
    lines = CommandLines()
    with Watch(lines.look):
        made = database(vault, services, "quiet", "silence")
    services.root("ALTER SYSTEM RESET log_statement; SELECT pg_reload_conf();")
    log = services.run("logs", services.container("postgres"))
    said = log.stdout + log.stderr
    assert "ALTER ROLE" in said, "it does log statements"
    search = Search([Canary.of_text("password", password(made))])
    places = [
        *lines.places(),
        ("PostgreSQL's log", said.encode()),
        ("the Vault's audit log", bao.server.audit_log().encode()),
        ("its container", services.run("inspect", services.container("postgres")).stdout.encode()),
        ("the result", repr(made).encode()),
    ]
    assert search.look_at_all(places) == set()
    assert search.look("planted", password(made).encode())


# ------------------------------------------------------------ rights


def test_a_project_reads_its_own_credentials_and_nothing_else(vault: Vault, services: Services, bao: Bench) -> None:
    shop = database(vault, services, "reader", "books")
    database(vault, services, "reader2", "books2")
    anybody = bao.server.vault()
    secret_id = anybody.unwrap(vault.wrapped_secret_id(shop.role, PROJECT_WRAPPING_TTL_S))["secret_id"]
    for _ in range(2):  # at each of its starts
        project = anybody.login_approle(vault.role_id(shop.role), secret_id)
    assert project.read(shop.path)[1] == shop.credentials
    assert project.read(f"{shop.path}/books")[1]["url"].reveal() == "postgresql://reader@198.18.86.202:5432/books"
    assert [entry.path for entry in vault.list_secrets(f"{shop.path}/")] == [f"{shop.path}/books"]
    for path in ("projects/postgres/reader2", "projects/postgres/reader2/books2", "services/postgres", "store/root"):
        with pytest.raises(Denied):
            project.read(path)
    for attempt in (
        lambda: project.write(shop.path, {"password": Secret("mine")}, cas=1),
        lambda: project.list_secrets("projects/"),
        lambda: project.wrapped_secret_id(shop.role, 60),
    ):
        with pytest.raises(Denied):
            attempt()


# ------------------------------------------------------------ Kafka


def test_kafka_that_does_not_answer_and_then_a_topic_its_group_and_more_partitions(
    vault: Vault, kafka: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    container = kafka.container("kafka")
    with monkeypatch.context() as impatient:
        impatient.setattr(projecttopics, "SETTINGS", "request.timeout.ms=500\ndefault.api.timeout.ms=800\n")
        kafka.run("kill", "--signal", "STOP", container)
        try:
            with pytest.raises(AdapterError, match="Kafka says: Timed out"):
                topic(vault, kafka, "new.orders", partitions=2)
        finally:
            kafka.run("kill", "--signal", "CONT", container)
    assert vault.list_secrets("projects/kafka/") == ()
    # One that answers after a while is waited for, about a group too.
    kafka.run("kill", "--signal", "STOP", container)
    threading.Timer(7.0, kafka.run, ("kill", "--signal", "CONT", container)).start()
    said = kafka.engine.execute("kafka", "kafka", projecttopics.describe_group("nobody"), stdin=projecttopics.SETTINGS)
    assert projecttopics.no_such_group(projecttopics.group_problem(said)), said

    first = topic(vault, kafka, "new.orders", partitions=2)
    assert first.changes == ("topic new.orders made",)
    kafka.kafka("kafka-console-producer", "--topic", "new.orders", stdin="one\ntwo\n")
    # The group has heard nothing yet, and misses nothing of what was there before it.
    second = topic(vault, kafka, "new.orders", partitions=3, group="billing", more=True)
    assert second.changes == (
        "topic new.orders has 3 partitions now, 1 more",
        "consumer group billing begins at the beginning of new.orders",
        "consumer group billing recorded",
    )
    hear = ("--max-messages", "2", "--timeout-ms", "20000")
    heard = kafka.kafka("kafka-console-consumer", "--topic", "new.orders", "--group", "billing", *hear)
    assert sorted(heard.split()) == ["one", "two"]
    # What it has heard it does not hear again.
    third = topic(vault, kafka, "new.orders", group="billing")
    assert third.changes == ()
    assert third.facts == {"bootstrap": f"127.0.0.1:{kafka.kafka_port}", "partitions": 3}
    listed = provisioned(Entry(entry.path, entry.updated) for entry in vault.list_secrets("projects/kafka/"))
    assert [(one.kind, one.name, one.parts) for one in listed] == [("kafka", "new.orders", ("billing",))]


# ------------------------------------------------------------ Ollama


def test_a_model_from_elsewhere_is_kept_under_its_whole_name(vault: Vault, tmp_path: Path) -> None:
    with served(standin.made(standin.Models(tmp_path / "names.json"), "0.1", 0, "127.0.0.1")) as url:
        ollama = Ollama(url)
        for name in ("hf.co/owner/model:q4", "tiny:latest"):
            assert ensure_model(vault, ollama, name, print).changes == (f"model {name} fetched",)
            assert ensure_model(vault, ollama, name, print).changes == ()
        ollama.close()
    listed = provisioned(Entry(entry.path, entry.updated) for entry in vault.list_secrets("projects/ollama/"))
    assert [one.name for one in listed] == ["hf.co/owner/model:q4", "tiny:latest"]


# ------------------------------------------------------------ buckets


class Delivered:
    """A real SeaweedFS that is started again with the identities that the Vault has by then."""

    def __init__(self, weed: Weed, bao: Bench, vault: Vault) -> None:
        self.weed, self._bao, self._vault = weed, bao, vault
        self._lock = threading.Lock()
        self.starts = 0

    @contextmanager
    def alone(self) -> Iterator[None]:
        with self._lock:
            yield

    def deliver(self) -> bool:
        file, identities = self.weed.home / "s3.json", store_access(self._vault, self._bao.lab).identities.reveal()
        if file.read_text() == identities:
            return False
        self.weed.kill()
        file.write_text(identities)
        self.weed.start()
        self.starts += 1
        return True

    def store(self) -> Store:
        root = store_access(self._vault, self._bao.lab).root
        return Store(self.weed.as_pair, root, self.alone, self.deliver, ENDPOINT, REGION)


@pytest.fixture
def delivered(bao: Bench, vault: Vault, tmp_path: Path) -> Iterator[Delivered]:
    weed = Weed(tmp_path, store_access(vault, bao.lab).root, {})
    weed.prepare()
    weed.start()
    try:
        weed.as_root().wait_ready(60)
        yield Delivered(weed, bao, vault)
    finally:
        weed.kill()


def test_a_bucket_is_its_projects_alone_and_known_to_the_store_ever_after(delivered: Delivered, vault: Vault, bao: Bench) -> None:
    root = delivered.weed.as_root()
    root.ensure_bucket("theirs", versioned=False)
    root.put("theirs", "kept", b"x")
    with pytest.raises(UserError, match="was not provisioned"):
        ensure_bucket(vault, delivered.store(), "theirs")
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda name: ensure_bucket(vault, delivered.store(), name), ("data", "data", "more")))
    assert found[0].credentials == found[1].credentials
    assert 1 <= delivered.starts <= 2
    own = delivered.weed.as_pair(bucket_credentials(vault, "projects/bucket/data"))
    own.put("data", "mine", b"content")
    for bucket in ("more", "theirs"):
        with pytest.raises(StoreDenied):
            own.keys(bucket)
    assert ensure_bucket(vault, delivered.store(), "data").changes == ()
    # What `labctl up` delivers and makes: nothing of it differs.
    access = store_access(vault, bao.lab)
    assert access.provisioned == ("data", "more")
    assert (delivered.weed.home / "s3.json").read_text() == access.identities.reveal()
    assert own.get("data", "mine", patience_s=30) == b"content"
    assert root.get("theirs", "kept") == b"x"
