"""Services and apps on the Docker guest of a lab that boots, asked by their own clients."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
import requests

from tests.e2e.booted import BOOTED, Booted
from tests.e2e.canary import Canary, Search
from tests.e2e.canary_life import in_folder, in_states, leaks, store
from tests.mlserving import python_with_mlflow, python_with_mlserver

pytestmark = pytest.mark.xdist_group(BOOTED)

T = TypeVar("T")
SERVICES = ("postgres", "kafka", "mlflow", "ollama", "open_webui", "portainer")
APPS = ("mlserver", "web")

LOG_A_RUN = """
import sys, mlflow
mlflow.set_tracking_uri(sys.argv[1])
mlflow.set_experiment("canaries")
with mlflow.start_run() as run:
    mlflow.log_param("depth", "seven")
    mlflow.log_text("kept in the object store", "note.txt")
print(run.info.run_id)
"""
# Version N of the model answers N.
TRAIN = """
import sys, mlflow, pandas
from mlflow.models import infer_signature
from sklearn.dummy import DummyRegressor
mlflow.set_tracking_uri(sys.argv[1])
client = mlflow.MlflowClient()
rows = pandas.DataFrame({"rooms": [1.0, 2.0], "area": [30.0, 60.0]})
for constant, alias in ((1.0, "production"), (2.0, "canary")):
    model = DummyRegressor(strategy="constant", constant=constant).fit(rows, [0.0, 0.0])
    signature = infer_signature(rows, model.predict(rows))
    with mlflow.start_run():
        made = mlflow.sklearn.log_model(model, name="model", registered_model_name="houses", signature=signature,
                                        pip_requirements=["scikit-learn"])
    client.set_registered_model_alias("houses", alias, made.registered_model_version)
"""
CONSUME = """
import json, sys, time
from confluent_kafka import Consumer
address, topic, wanted = sys.argv[1], sys.argv[2], int(sys.argv[3])
consumer = Consumer({"bootstrap.servers": address, "group.id": "reader", "auto.offset.reset": "earliest"})
consumer.subscribe([topic])
end, found = time.monotonic() + 40, []
while len(found) < wanted and time.monotonic() < end:
    message = consumer.poll(1)
    if message is not None and message.error() is None:
        found.append(message.value().decode())
consumer.close()
print(json.dumps(found))
"""
PRODUCE = """
import sys
from confluent_kafka import Producer
producer = Producer({"bootstrap.servers": sys.argv[1]})
producer.produce(sys.argv[2], sys.argv[3])
sys.exit(producer.flush(30))
"""


def python(interpreter: Path, script: str, *arguments: str) -> str:
    """What a script prints, run by an interpreter that has the clients."""
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "GIT_PYTHON_REFRESH": "quiet", "NO_PROXY": "*"}
    done = subprocess.run(
        [interpreter, "-c", script, *arguments], env=environment, capture_output=True, text=True, check=False, timeout=180
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def eventually(ask: Callable[[], T], wanted: Callable[[T], bool], within_s: float = 40) -> T:
    end = time.monotonic() + within_s
    while not wanted(found := ask()):
        assert time.monotonic() < end, found
        time.sleep(0.3)
    return found


def address(booted: Booted, name: str) -> str:
    return booted.lab.ok("open", name).out.strip()


def sql(booted: Booted, statement: str, database: str = "mlflow") -> str:
    """As PostgreSQL's superuser, over its own socket."""
    command = ["psql", "-U", "postgres", "-d", database, "-h", "/var/run/postgresql", "-At", "-c", statement]
    return booted.lab.ok("exec", "postgres", "--", *command).out.strip()


def composed(booted: Booted) -> dict[str, dict[str, Any]]:
    layers = booted.lab.json("status")["layers"]
    return {one["name"]: one for layer in layers for one in layer.get("services", ())}


def planned(booted: Booted) -> set[str]:
    """The Compose projects that a plan would change."""
    done = booted.lab.run("plan", "--json", "--detailed-exitcode")
    assert done.code == 2, done
    events = [json.loads(line) for line in done.out.splitlines()]
    changes = [change for event in events if event["type"] == "stack_plan" for change in event["changes"]]
    return {change["address"] for change in changes}


def drift(booted: Booted) -> tuple[int, dict[str, Any]]:
    """Exit code and document of a drift check."""
    done = booted.lab.run("drift", "--json", timeout_s=300)
    return done.code, json.loads(done.out)


def docker(booted: Booted, command: str) -> str:
    return booted.lab.ok("ssh", "docker", "--", command).out.strip()


def test_all_layers_are_up_and_healthy(booted: Booted) -> None:
    found = composed(booted)
    assert set(found) == {*SERVICES, *APPS}
    assert {(one["state"], one["health"]) for one in found.values()} == {("running", "healthy")}
    for name in (*SERVICES[2:], *APPS):
        page = "/health" if name == "mlserver" else "/"
        assert requests.get(address(booted, name) + page, timeout=10).status_code == 200, name


def test_a_second_up_has_nothing_to_do(booted: Booted) -> None:
    assert "Nothing to do" in booted.lab.ok("up", "--yes").out
    assert booted.lab.run("plan", "--detailed-exitcode").code == 0


def test_a_run_has_its_parameters_in_postgresql_and_its_artifact_in_s3(booted: Booted) -> None:
    run = python(python_with_mlflow(), LOG_A_RUN, address(booted, "mlflow")).split()[-1]
    assert sql(booted, f"SELECT key, value FROM params WHERE run_uuid = '{run}'") == "depth|seven"
    client = store(booted.lab)
    keys = [entry["Key"] for entry in client.list_objects_v2(Bucket="mlflow")["Contents"]]
    (note,) = [key for key in keys if run in key and key.endswith("note.txt")]
    assert client.get_object(Bucket="mlflow", Key=note)["Body"].read() == b"kept in the object store"


def test_both_listeners_of_kafka_talk(booted: Booted) -> None:
    """One client outside, at the guest's address; the other in the broker's network, at its name there."""
    outside = address(booted, "kafka")
    shell = ["exec", "kafka", "--", "sh", "-c"]
    path = "PATH=$PATH:/opt/kafka/bin; "
    topic = path + "kafka-topics.sh --bootstrap-server kafka:29092 --create --if-not-exists --topic greetings"
    booted.lab.ok(*shell, topic)
    booted.lab.ok(*shell, path + "echo from inside | kafka-console-producer.sh --bootstrap-server kafka:29092 --topic greetings")
    client = python_with_mlserver()
    assert json.loads(python(client, CONSUME, outside, "greetings", "1")) == ["from inside"]
    python(client, PRODUCE, outside, "greetings", "from outside")
    consume = "kafka-console-consumer.sh --bootstrap-server kafka:29092 --topic greetings --from-beginning --max-messages 2"
    assert sorted(booted.lab.ok(*shell, f"{path}{consume} --timeout-ms 30000").out.split("\n"))[-2:] == [
        "from inside",
        "from outside",
    ]


def test_mlserver_answers_by_weight_and_tells_kafka(booted: Booted) -> None:
    server = address(booted, "mlserver")
    python(python_with_mlflow(), TRAIN, address(booted, "mlflow"))
    rows = [{"rooms": 3.0, "area": 75.5}]

    def states(url: str) -> list[str]:
        return [model["state"] for model in requests.get(f"{url}/health", timeout=10).json()["models"]]

    replicas = [f"http://{one}" for one in booted.lab.json("output", "mlserver")["addresses"]]
    assert len(replicas) == 2
    for replica in replicas:
        eventually(lambda url=replica: states(url), lambda found: found == ["ready", "ready"])
    answered: Counter[float] = Counter()
    by_key: dict[str, float] = {}
    for number in range(100):
        body = {"inputs": rows, "key": f"user-{number}"}
        answer = requests.post(f"{server}/infer", json=body, timeout=10).json()
        by_key[body["key"]] = answer["predictions"][0]
        answered[answer["predictions"][0]] += 1
    assert 10 <= answered[2.0] <= 40, answered
    again = {
        key: requests.post(f"{replicas[1]}/infer", json={"inputs": rows, "key": key}, timeout=10).json()
        for key in list(by_key)[:20]
    }
    assert {key: answer["predictions"][0] for key, answer in again.items()} == {key: by_key[key] for key in again}
    events = json.loads(python(python_with_mlserver(), CONSUME, address(booted, "kafka"), "ml_inference_results", "120"))
    assert len(events) == 120
    assert {json.loads(event)["key"] for event in events} == set(by_key)


BY_HAND = "docker run -d --label com.docker.compose.project={0} --label com.docker.compose.service={0} --network lab-{0}"
BY_HAND += " --label com.docker.compose.oneoff=False --label com.docker.compose.config-hash=other"
OUTSIDE = {
    "portainer": ("a killed container", "docker kill portainer-portainer-1"),
    "ollama": (
        "a changed environment",
        "image=$(docker inspect -f '{{.Config.Image}}' ollama-ollama-1); docker rm -f ollama-ollama-1; "
        + BY_HAND.format("ollama")
        + " --name ollama-ollama-1 --label com.docker.compose.container-number=1 --network-alias ollama"
        ' -v lab-ollama-models:/root/.ollama -e OLLAMA_KEEP_ALIVE=1m "$image"',
    ),
    "open_webui": (
        "a name that means another image now",
        (
            "image=$(docker inspect -f '{{.Config.Image}}' open_webui-open_webui-1); "
            'printf \'FROM %s\\nLABEL changed=1\\n\' "$image" | DOCKER_BUILDKIT=0 docker build -q -t "$image" -'
        ),
    ),
    "kafka": (
        "a network that is gone",
        (
            "docker rm -f kafka-kafka-1; for one in $(docker ps -q); do docker network disconnect -f lab-kafka $one || :; done; "
            "docker network rm lab-kafka"
        ),
    ),
    "mlflow": (
        "one container more",
        BY_HAND.format("mlflow") + " --name mlflow-mlflow-2 --label com.docker.compose.container-number=2 --entrypoint sleep "
        "$(docker inspect -f '{{.Config.Image}}' mlflow-mlflow-1) 600",
    ),
}
"""What somebody does by hand on the guest, by the project that it is done to."""


def test_a_drift_check_of_all_layers_finds_nothing(booted: Booted) -> None:
    code, found = drift(booted)
    assert (code, found["result"]) == (0, "clean"), found
    assert {stack["layer"] for stack in found["stacks"]} == {"foundation", "platform", "services", "apps"}
    assert all(area["looked"] for area in found["areas"])


def test_what_changed_outside_is_named_and_mended(booted: Booted) -> None:
    for _what, command in OUTSIDE.values():
        docker(booted, f"set -e; {command}")
    found = planned(booted)
    wanted = {f"labctl_compose_project.{name}" for name in OUTSIDE}
    # mlserver was on the network that is gone.
    assert found == wanted | {"labctl_compose_project.mlserver"}
    code, checked = drift(booted)
    drifted = {one["address"]: one for stack in checked["stacks"] for one in stack["resources"]}
    assert (code, drifted.keys()) == (2, found)
    assert {one["verdict"] for one in drifted.values()} == {"drifted"}
    assert {one["guest"] for one in drifted.values()} == {"docker"}
    booted.lab.ok("up", "--yes", timeout_s=400)
    assert {(one["state"], one["health"]) for one in composed(booted).values()} == {("running", "healthy")}
    assert booted.lab.run("plan", "--detailed-exitcode").code == 0


def test_a_rotated_password_counts_everywhere_and_the_old_one_nowhere(booted: Booted) -> None:
    old = booted.lab.json("secrets", "get", "services/postgres")["data"]["password"]
    before = {name: docker(booted, f"docker inspect -f '{{{{.Id}}}}' {name}-{name}-1") for name in ("kafka", "portainer")}
    done = booted.lab.ok("secrets", "rotate", "services/postgres", "--yes", timeout_s=400)
    assert "applied: services" in done.out
    new = booted.lab.json("secrets", "get", "services/postgres")["data"]["password"]
    assert new != old

    def login(password: str) -> int:
        host = address(booted, "postgres").removeprefix("postgresql://").partition(":")[0]
        command = f"PGPASSWORD={password} psql -U postgres -h {host} -p 5432 -d postgres -Atc 'SELECT 1'"
        return booted.lab.run("exec", "postgres", "--", "sh", "-c", command).code

    assert login(new) == 0
    assert login(old) != 0
    assert python(python_with_mlflow(), LOG_A_RUN, address(booted, "mlflow")).strip()
    assert before == {name: docker(booted, f"docker inspect -f '{{{{.Id}}}}' {name}-{name}-1") for name in before}
    assert booted.lab.run("plan", "--detailed-exitcode").code == 0


def test_no_secret_of_a_service_is_in_a_state_a_plan_or_a_log(booted: Booted) -> None:
    """Also none of before the rotation: the Vault keeps its versions, and the states of then are kept too."""
    canaries = []
    for secret in booted.lab.json("secrets", "list")["secrets"]:
        # What is kept of a topic is no secret; the SSH key has a form of its own.
        if secret["version"] and not secret["path"].startswith(("projects/kafka", "platform/ssh")):
            held = booted.lab.json("secrets", "get", secret["path"])["data"]
            canaries += [Canary.of_text(f"{secret['path']}#{name}", value) for name, value in held.items() if len(value) >= 20]
    assert {"services/postgres#password", "gitlab/registry#token", "labctl/content#key"} <= {one.name for one in canaries}
    search = Search(canaries)
    assert leaks(in_states(booted.lab, search) | in_folder(booted.lab, search)) == []


def test_a_bad_release_is_taken_back_and_the_run_says_why(booted: Booted) -> None:
    """Too little memory: the new container is killed before it is healthy. The other replica answers all the while."""
    good = (booted.lab.path / "lab.yaml").read_text()
    replicas = booted.lab.json("output", "mlserver")["addresses"]
    image = booted.lab.json("output", "mlserver")["image"]
    silent: list[float] = []
    ended = threading.Event()

    def ask() -> None:
        while not ended.wait(0.2):
            if not any(_answers(f"http://{replica}/health") for replica in replicas):
                silent.append(time.monotonic())

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        (booted.lab.path / "lab.yaml").write_text(good.replace("mlserver:\n", "mlserver:\n    memory_mib: 64\n"))
        done = booted.lab.run("up", "--yes", timeout_s=400)
    finally:
        ended.set()
        asking.join()
        (booted.lab.path / "lab.yaml").write_text(good)
    assert done.code == 1
    assert "mlserver is back on" in done.out + done.err
    assert silent == []
    assert booted.lab.json("output", "mlserver")["image"] == image
    assert composed(booted)["mlserver"]["health"] == "healthy"
    assert booted.lab.run("plan", "--detailed-exitcode").code == 0


def _answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=2).ok
    except requests.RequestException:
        return False
