"""The sandbox's own images: really built, pulled from its registry by the real engine, and run."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import time
from collections.abc import Callable, Iterator
from typing import Any

import docker
import docker.errors
import pytest
import requests

from labctl.model.errors import AdapterError
from labctl.sandbox.choice import look
from labctl.sandbox.guests.engine import Engine
from labctl.sandbox.images import build
from labctl.sandbox.images.build import Ready, ensure_images
from labctl.sandbox.images.catalogue import IMAGES, Image, build_files, engine_name, recipe
from labctl.sandbox.images.store import ImageStore
from tests.servedimages import served_images

CI = os.environ.get("CI") == "true"
FACTS = look()
CANNOT = (
    f"no Docker engine answers on {FACTS.socket}: start `dockerd`"
    if not FACTS.engine
    else f"{FACTS.builder}: `apt-get install mmdebstrap`"
    if FACTS.builder
    else ""
)
pytestmark = [
    pytest.mark.integration,
    pytest.mark.xdist_group("sandbox-images"),
    pytest.mark.skipif(bool(CANNOT) and not CI, reason=CANNOT),
]
WANTED = ("postgres", "kafka", "mlflow", "ollama")
PREFIX = f"labctl-images-{secrets.token_hex(3)}"
PASSWORD = "it's a \\ pass:word"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ImageStore:
    return ImageStore(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def built(store: ImageStore) -> dict[str, Ready]:
    return ensure_images(WANTED, print, store=store)


@pytest.fixture(scope="module")
def registry(store: ImageStore, built: dict[str, Ready]) -> Iterator[str]:
    with served_images(store) as address:
        yield address


class Docker:
    """The engine, with what the tests make in it."""

    def __init__(self, registry: str) -> None:
        self.client = docker.DockerClient(base_url=f"unix://{FACTS.socket}", timeout=120)
        self._registry = registry
        self._pulled: dict[str, str] = {}
        self.network = self.client.networks.create(PREFIX)

    def image(self, name: str) -> str:
        """Pulls an image, and gives it a name that says whose it is."""
        if name not in self._pulled:
            repository, tag = f"{self._registry}/lab/{name}", IMAGES[name].version
            self.client.images.pull(repository, tag=tag).tag(f"{PREFIX}-{name}")
            self.client.images.remove(f"{repository}:{tag}")
            self._pulled[name] = f"{PREFIX}-{name}"
        return self._pulled[name]

    def run(self, name: str, **options: Any) -> Any:
        """Runs a container of an image under its name."""
        self.remove(name)
        return self.client.containers.run(
            self.image(name), detach=True, name=f"{PREFIX}-{name}", hostname=name, network=PREFIX, **options
        )

    def remove(self, name: str) -> None:
        with contextlib.suppress(docker.errors.NotFound):
            self.client.containers.get(f"{PREFIX}-{name}").remove(force=True, v=True)

    def close(self) -> None:
        for name in IMAGES:
            self.remove(name)
        for name in self._pulled.values():
            self.client.images.remove(name)
        for volume in self.client.volumes.list(filters={"name": PREFIX}):
            volume.remove()
        self.network.remove()
        self.client.close()


@pytest.fixture(scope="module")
def engine(registry: str) -> Iterator[Docker]:
    made = Docker(registry)
    try:
        yield made
    finally:
        made.close()


def execute(container: Any, *command: str, **options: Any) -> str:
    code, output = container.exec_run(list(command), **options)
    assert code == 0, output.decode()
    return str(output.decode())


def wait_for(what: Callable[[], bool], container: Any, timeout_s: float = 60) -> None:
    until = time.monotonic() + timeout_s
    while not what():
        container.reload()
        assert container.status == "running", container.logs(tail=30).decode()
        assert time.monotonic() < until, container.logs(tail=30).decode()
        time.sleep(0.3)


def address(container: Any) -> str:
    container.reload()
    return str(container.attrs["NetworkSettings"]["Networks"][PREFIX]["IPAddress"])


def health(container: Any, *command: str) -> Callable[[], bool]:
    return lambda: container.exec_run(list(command)).exit_code == 0


def answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=2).ok
    except requests.RequestException:
        return False


# ------------------------------------------------------------ building and keeping


def test_a_second_time_there_is_nothing_to_do_and_no_engine_is_asked(store: ImageStore, built: dict[str, Ready]) -> None:
    said: list[str] = []
    began = time.monotonic()
    again = ensure_images(WANTED, said.append, store=store, engine=Engine("/nowhere/docker.sock"))
    assert time.monotonic() - began < 1
    assert not said
    assert {name: one.kept.digest for name, one in again.items()} == {name: one.kept.digest for name, one in built.items()}
    assert not any(one.built for one in again.values())


def test_what_two_images_share_is_kept_once(store: ImageStore, built: dict[str, Ready]) -> None:
    shared = set(built["mlflow"].kept.layers) & set(built["ollama"].kept.layers)
    assert len(shared) >= 2  # Debian, and Python
    assert set(built["postgres"].kept.layers) & set(built["kafka"].kept.layers) <= shared
    on_disk = sum(path.stat().st_size for path in (store.folder / "blobs" / "sha256").iterdir())
    assert on_disk < 0.8 * sum(one.kept.size for one in built.values())


def test_nothing_half_done_is_left(store: ImageStore, built: dict[str, Ready]) -> None:
    assert not list(store.folder.glob("new-*"))
    assert not Engine().has_image(engine_name(IMAGES["postgres"]))  # kept as files: the engine needs it no more


def test_a_file_that_is_gone_makes_the_image_be_built_again(store: ImageStore, built: dict[str, Ready]) -> None:
    kept = built["ollama"].kept
    blob = store.blob(kept.digest)
    assert blob is not None
    blob.unlink()
    again = ensure_images(("ollama",), print, store=store)["ollama"]
    assert again.built
    assert store.find("ollama", again.kept.recipe) is not None


def test_a_build_that_fails_leaves_nothing_in_the_engine(
    store: ImageStore, built: dict[str, Ready], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = build_files

    def broken(image: Image) -> dict[str, tuple[bytes, int]]:
        text = "ARG PARENT\nFROM ${PARENT}\nRUN touch /first\nRUN echo it is broken && exit 3\n"
        return {"Dockerfile": (text.encode(), 0o644)} if image.name == "node" else real(image)

    client = docker.APIClient(f"unix://{FACTS.socket}", version="auto")
    before = client.images(quiet=True, filters={"dangling": True})
    monkeypatch.setattr(build, "build_files", broken)
    with pytest.raises(AdapterError, match="it is broken"):
        ensure_images(("node",), print, store=store)
    assert store.find("node", recipe("node")) is None
    assert set(client.images(quiet=True, filters={"dangling": True})) <= set(before)
    client.close()


# ------------------------------------------------------------ running


@pytest.fixture(scope="module")
def postgres(engine: Docker, tmp_path_factory: pytest.TempPathFactory) -> Any:
    file = tmp_path_factory.mktemp("secrets") / "password"
    file.write_text(PASSWORD)
    file.chmod(0o600)
    volume = f"{PREFIX}-postgres"
    engine.client.volumes.create(volume)
    container = engine.run(
        "postgres",
        command=["postgres", "-c", "max_connections=50"],
        environment={"POSTGRES_PASSWORD_FILE": "/run/secrets/password", "POSTGRES_USER": "boss", "POSTGRES_DB": "app"},
        volumes={volume: {"bind": "/var/lib/postgresql"}, str(file): {"bind": "/run/secrets/password", "mode": "ro"}},
    )
    wait_for(health(container, "pg_isready", "-q", "-h", "127.0.0.1", "-U", "boss", "-d", "app"), container)
    return container


def sql(container: Any, text: str, password: str = PASSWORD) -> tuple[int, str]:
    code, output = container.exec_run(
        ["psql", "-X", "-At", "-h", address(container), "-U", "boss", "-d", "app", "-c", text],
        environment={"PGPASSWORD": password},
    )
    return code, output.decode().strip()


def test_postgres_is_initialised_and_keeps_its_data(engine: Docker, postgres: Any) -> None:
    assert sql(postgres, "SHOW server_version")[1].startswith("18.")
    assert sql(postgres, "SHOW max_connections") == (0, "50")
    assert sql(postgres, "SELECT rolpassword LIKE 'SCRAM-SHA-256$%' FROM pg_authid WHERE rolname = 'boss'") == (0, "t")
    assert sql(postgres, "CREATE TABLE kept AS SELECT 7 AS value")[0] == 0
    code, said = sql(postgres, "SELECT 1", "wrong")
    assert code != 0
    assert "password authentication failed" in said
    execute(postgres, "psql", "-X", "-h", "/var/run/postgresql", "-U", "boss", "-c", "SELECT 1", "app", user="postgres")
    assert "password" not in json.dumps(postgres.attrs["Config"]["Env"]).replace(
        "POSTGRES_PASSWORD_FILE=/run/secrets/password", ""
    )
    postgres.restart(timeout=20)
    wait_for(lambda: sql(postgres, "SELECT value FROM kept") == (0, "7"), postgres)
    assert execute(postgres, "cat", "/var/lib/postgresql/18/docker/PG_VERSION").strip() == "18"


def test_postgres_without_a_password_says_what_is_missing(engine: Docker) -> None:
    container = engine.client.containers.create(engine.image("postgres"))
    try:
        container.start()
        assert container.wait(timeout=30)["StatusCode"] == 1
        assert b"POSTGRES_PASSWORD" in container.logs()
    finally:
        container.remove(v=True)


@pytest.mark.parametrize(
    ("prepare", "pgdata", "said"),
    [
        pytest.param("mkdir -p 17/docker; echo 17 > 17/docker/PG_VERSION", "", "holds data of PostgreSQL 17", id="beside"),
        pytest.param("mkdir -p 18/docker; echo 17 > 18/docker/PG_VERSION", "", "holds data of PostgreSQL 17", id="there"),
        pytest.param("mkdir data; echo 7 > data/mine", "data", "holds files that are not PostgreSQL's", id="foreign"),
    ],
)
def test_postgres_leaves_data_alone_that_is_not_its_own(engine: Docker, prepare: str, pgdata: str, said: str) -> None:
    folder = "/var/lib/postgresql"
    volume = engine.client.volumes.create(f"{PREFIX}-{secrets.token_hex(3)}")
    mounted = {volume.name: {"bind": folder}}
    look_around = ["sh", "-c", "find . -type f | sort | xargs grep ."]
    prepared = {"image": engine.image("postgres"), "volumes": mounted, "working_dir": folder, "remove": True, "entrypoint": []}
    engine.client.containers.run(command=["sh", "-ec", prepare], **prepared)
    before = engine.client.containers.run(command=look_around, **prepared)
    settings = {"POSTGRES_PASSWORD": "word"} | ({"PGDATA": f"{folder}/{pgdata}"} if pgdata else {})
    container = engine.client.containers.create(engine.image("postgres"), environment=settings, volumes=mounted)
    try:
        container.start()
        assert container.wait(timeout=30)["StatusCode"] == 1
        assert said in container.logs().decode()
    finally:
        container.remove(v=True, force=True)
    assert engine.client.containers.run(command=look_around, **prepared) == before
    volume.remove()


def test_kafka_takes_its_settings_from_the_environment(engine: Docker) -> None:
    container = engine.run(
        "kafka",
        environment={
            "CLUSTER_ID": "bGFiY3RsLWthZmthLTAwMQ",
            "KAFKA_NODE_ID": "1",
            "KAFKA_PROCESS_ROLES": "broker,controller",
            "KAFKA_LISTENERS": "OUTSIDE://:9092,INSIDE://:29092,CONTROLLER://:9093",
            "KAFKA_ADVERTISED_LISTENERS": "OUTSIDE://localhost:9092,INSIDE://kafka:29092",
            "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "OUTSIDE:PLAINTEXT,INSIDE:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "KAFKA_INTER_BROKER_LISTENER_NAME": "INSIDE",
            "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
            "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
            "KAFKA_LOG_DIRS": "/var/lib/kafka/data",
            "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
            "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
            "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
            "KAFKA_HEAP_OPTS": "-Xms256m -Xmx256m",
        },
        volumes={f"{PREFIX}-kafka": {"bind": "/var/lib/kafka/data"}},
    )
    wait_for(health(container, "bash", "-c", "exec 3<>/dev/tcp/localhost/29092"), container)
    server = ("--bootstrap-server", "kafka:29092")
    topics = "/opt/kafka/bin/kafka-topics.sh"
    execute(container, topics, *server, "--create", "--topic", "events", "--partitions", "3")
    assert "PartitionCount: 3" in execute(container, topics, *server, "--describe", "--topic", "events")
    say = "printf 'one\\ntwo\\n' | /opt/kafka/bin/kafka-console-producer.sh --bootstrap-server localhost:9092 --topic events"
    execute(container, "bash", "-c", say)
    hear = ("--topic", "events", "--from-beginning", "--max-messages", "2", "--timeout-ms", "20000", "--group", "test")
    heard = execute(container, "/opt/kafka/bin/kafka-console-consumer.sh", *server, *hear, stderr=False)
    assert sorted(heard.split()) == ["one", "two"]
    groups = execute(container, "/opt/kafka/bin/kafka-consumer-groups.sh", *server, "--describe", "--group", "test")
    assert "events" in groups
    assert "bGFiY3RsLWthZmthLTAwMQ" in execute(container, "cat", "/var/lib/kafka/data/meta.properties")
    assert "auto.create.topics.enable=false" in execute(container, "cat", "/opt/kafka/config/server.properties")
    container.restart(timeout=30)
    wait_for(health(container, "bash", "-c", "exec 3<>/dev/tcp/localhost/29092"), container)
    assert "events" in execute(container, topics, *server, "--list")
    engine.remove("kafka")


def test_mlflow_serves_from_postgres(engine: Docker, postgres: Any) -> None:
    container = engine.run(
        "mlflow",
        command=[
            *("mlflow", "server", "--host=0.0.0.0", "--port=5000", "--serve-artifacts", "--workers=1"),
            "--artifacts-destination=s3://mlflow/artifacts",
            "--backend-store-uri=postgresql://boss@postgres:5432/app",
        ],
        environment={"PGPASSWORD": PASSWORD, "MLFLOW_SERVER_ALLOWED_HOSTS": "*"},
    )
    base = f"http://{address(container)}:5000"
    wait_for(lambda: answers(f"{base}/health"), container, 120)
    ask = "import urllib.request; urllib.request.urlopen('http://127.0.0.1:5000/health', timeout=4)"
    execute(container, "python3", "-c", ask)
    api = f"{base}/api/2.0/mlflow"
    made = requests.post(f"{api}/experiments/create", json={"name": "first"}, timeout=20).json()
    run = requests.post(f"{api}/runs/create", json={"experiment_id": made["experiment_id"]}, timeout=20).json()["run"]["info"]
    logged = {"run_id": run["run_id"], "key": "depth", "value": "3"}
    assert requests.post(f"{api}/runs/log-parameter", json=logged, timeout=20).ok
    assert requests.post(f"{api}/registered-models/create", json={"name": "model"}, timeout=20).ok
    assert sql(postgres, "SELECT key, value FROM params") == (0, "depth|3")
    assert "<title>MLflow" in requests.get(base, timeout=20).text
    execute(container, "python3", "-c", "import boto3, psycopg2")
    engine.remove("mlflow")


def test_a_stand_in_keeps_its_models(engine: Docker) -> None:
    container = engine.run("ollama", volumes={f"{PREFIX}-ollama": {"bind": "/root/.ollama"}})
    wait_for(health(container, "ollama", "list"), container)
    base = f"http://{address(container)}:11434"
    lines = requests.post(f"{base}/api/pull", json={"model": "llama3.2"}, stream=True, timeout=20).iter_lines()
    assert json.loads(list(lines)[-1]) == {"status": "success"}
    container.restart(timeout=10)
    wait_for(health(container, "ollama", "list"), container)
    base = f"http://{address(container)}:11434"
    found = requests.get(f"{base}/api/tags", timeout=10)
    assert [one["name"] for one in found.json()["models"]] == ["llama3.2:latest"]
    assert "stand-in" in found.headers["X-Stand-In"]
    assert "llama3.2:latest" in execute(container, "ollama", "list")


def test_an_image_that_is_not_kept_is_refused_with_the_reason(registry: str, engine: Docker) -> None:
    with pytest.raises(docker.errors.APIError, match="labctl sandbox images node"):
        engine.client.images.pull(f"{registry}/lab/node", tag=IMAGES["node"].version)


def test_the_digest_pins_an_image(registry: str, engine: Docker, built: dict[str, Ready], store: ImageStore) -> None:
    kept = store.find("postgres", built["postgres"].kept.recipe)
    assert kept is not None
    pulled = engine.client.images.pull(f"{registry}/lab/postgres@{kept.digest}")
    assert f"{registry}/lab/postgres@{kept.digest}" in pulled.attrs["RepoDigests"]
    engine.client.images.remove(f"{registry}/lab/postgres@{kept.digest}")
