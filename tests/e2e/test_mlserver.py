"""mlserver as it runs: its locked dependencies, a real MLflow with real models, a broker that is away, one that is there."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import requests

from mlserver.config import Choice
from mlserver.routing import choose
from tests.mlserving import Process, eventually, free_port, mlflow_server, mlserver, python_with_mlflow, python_with_mlserver

MODELS = [
    {"name": "houses", "alias": "production", "weight": 3},
    {"name": "houses", "alias": "canary", "weight": 1},
]

# Version N of a model answers N.
TRAIN = """
import sys
import mlflow, pandas
from mlflow.models import infer_signature
from sklearn.dummy import DummyRegressor
mlflow.set_tracking_uri(sys.argv[1])
rows = pandas.DataFrame({"rooms": [1.0, 2.0], "area": [30.0, 60.0]})
for constant in (1.0, 2.0, 3.0, 4.0):
    model = DummyRegressor(strategy="constant", constant=constant).fit(rows, [0.0, 0.0])
    signature = infer_signature(rows, model.predict(rows))
    with mlflow.start_run():
        mlflow.sklearn.log_model(model, name="model", registered_model_name="houses", signature=signature,
                                 pip_requirements=["scikit-learn"])
"""
# librdkafka brings a broker for tests, which speaks the protocol on a real socket.
BROKER = """
from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition
host = Producer({"test.mock.num.brokers": 1})
topics = ["ml_inference_results", "ml_inference_feedback"]
# Asking for a topic makes it.
partitions = [TopicPartition(topic, number, OFFSET_BEGINNING) for topic in topics
              for number in host.list_topics(topic, timeout=10).topics[topic].partitions]
address = next(iter(host.list_topics(timeout=10).brokers.values()))
print(f"{address.host}:{address.port}", flush=True)
consumer = Consumer({"bootstrap.servers": f"{address.host}:{address.port}", "group.id": "reader"})
consumer.assign(partitions)
while True:
    message = consumer.poll(1)
    if message is not None and message.error() is None:
        print(message.topic(), message.key().decode(), message.value().decode(), sep="\\t", flush=True)
"""


@dataclass
class World:
    """MLflow, with what is asked of it."""

    python: Path
    """With MLflow."""
    mlflow: Process
    folder: Path
    has_models: bool = False

    def train(self) -> None:
        """Once."""
        if not self.has_models:
            self.do(TRAIN)
        self.has_models = True

    def do(self, script: str, *arguments: str) -> None:
        environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "GIT_PYTHON_REFRESH": "quiet"}
        done = subprocess.run(
            [self.python, "-c", script, self.mlflow.url, *arguments],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            cwd=self.folder,
        )
        assert done.returncode == 0, done.stderr[-2000:]

    def point(self, alias: str, version: int) -> None:
        """As MLflow's own client does over its REST API."""
        body = {"name": "houses", "alias": alias, "version": str(version)}
        self.mlflow.post("/api/2.0/mlflow/registered-models/alias", body).raise_for_status()

    def lose_files(self, version: int) -> None:
        """A version whose files are no longer there."""
        answer = self.mlflow.get(f"/api/2.0/mlflow/model-versions/get?name=houses&version={version}")
        source = answer.json()["model_version"]["source"].rpartition("/")[2]
        for folder in (self.folder / "artifacts").rglob(source):
            shutil.rmtree(folder)


@pytest.fixture(scope="module")
def python() -> Path:
    return python_with_mlserver()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("mlflow")
    python = python_with_mlflow()
    with mlflow_server(python, folder) as server:
        yield World(python, server, folder)


@pytest.fixture(scope="module")
def trained(world: World) -> World:
    world.train()
    return world


def settings(world: World, **more: Any) -> dict[str, Any]:
    nobody = f"127.0.0.1:{free_port()}"
    return {"tracking_uri": world.mlflow.url, "kafka": nobody, "models": MODELS, "poll_s": 0.3, "delivery_s": 1} | more


@pytest.fixture(scope="module")
def shared(python: Path, trained: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """A server for the tests that leave it as it was: version 1 is in production, version 2 the canary."""
    trained.point("production", 1)
    trained.point("canary", 2)
    with mlserver(python, tmp_path_factory.mktemp("mlserver"), **settings(trained)) as server:
        yield server


@pytest.fixture
def server(trained: World, shared: Process) -> Process:
    """The shared one, with both models loaded."""
    trained.point("production", 1)
    ready = [("ready", "1"), ("ready", "2")]
    eventually(lambda: list(zip(states(shared), versions(shared), strict=True)), lambda found: found == ready, "both are loaded")
    return shared


def health(server: Process) -> dict[str, Any]:
    return dict(server.get("/health").json())


def states(server: Process) -> list[str]:
    return [model["state"] for model in health(server)["models"]]


def versions(server: Process) -> list[str]:
    return [model["version"] for model in health(server)["models"]]


def error(response: requests.Response) -> tuple[int, str]:
    problem = response.json()["error"]
    assert problem["message"]
    assert problem["remedy"]
    return response.status_code, problem["code"]


ROWS = [{"rooms": 3, "area": 75.5}, {"rooms": 1, "area": 20}]


def test_models_that_nobody_has_registered_are_waited_for(python: Path, world: World, tmp_path: Path) -> None:
    with mlserver(python, tmp_path, **settings(world)) as server:
        eventually(lambda: states(server), lambda found: found == ["absent", "absent"], "MLflow says that there are none")
        # The deploy is no bad one: it is the registry that has nothing yet.
        assert (server.get("/health").status_code, health(server)["status"]) == (200, "degraded")
        answer = server.post("/infer", {"inputs": ROWS})
        assert error(answer) == (503, "no_model")
        assert "houses@production" in answer.json()["error"]["message"]
        world.train()
        world.point("production", 1)
        eventually(lambda: states(server), lambda found: found == ["ready", "absent"], "the model is taken up")
        assert server.post("/infer", {"inputs": ROWS}).json()["predictions"] == [1.0, 1.0]


def test_two_models_answer_by_weight_and_an_alias_that_moves_is_followed(trained: World, server: Process) -> None:
    assert server.get("/version").json() == {
        "version": "test",
        "image": "registry.example.com/lab/apps/mlserver@sha256:" + "0" * 64,
        "digest": "sha256:" + "0" * 64,
    }
    choices = [Choice.model_validate(model) for model in MODELS]
    counts: Counter[str] = Counter()
    for number in range(200):
        answer = server.post("/infer", {"inputs": ROWS, "key": f"user-{number}"}).json()
        assert answer["model"]["alias"] == choose(choices, f"user-{number}").alias
        assert answer["predictions"] == [float(answer["model"]["version"])] * 2
        counts[answer["model"]["alias"]] += 1
    assert 30 <= counts["canary"] <= 70
    trained.point("production", 3)
    eventually(lambda: versions(server), lambda found: found == ["3", "2"], "the alias is followed")
    answers = [server.post("/infer", {"inputs": ROWS, "key": f"user-{number}"}).json() for number in range(20)]
    assert {str(answer["predictions"]) for answer in answers} == {"[3.0, 3.0]", "[2.0, 2.0]"}


def test_a_broker_that_is_away_costs_the_events_and_nothing_else(python: Path, trained: World, tmp_path: Path) -> None:
    trained.point("production", 1)
    with mlserver(python, tmp_path, **settings(trained)) as server:
        eventually(lambda: states(server), lambda found: found[0] == "ready", "it is loaded")
        begun = time.monotonic()
        for _ in range(20):
            answer = server.post("/infer", {"inputs": ROWS})
            assert answer.status_code == 200
            feedback = server.post("/feedback", {"id": answer.json()["id"], "correct": True})
            assert (feedback.status_code, feedback.json()["status"]) == (202, "accepted")
        assert time.monotonic() - begun < 10
        lost = eventually(lambda: health(server), lambda found: found["events"]["undelivered"] == 40, "all are given up")
        assert (lost["events"]["sent"], lost["events"]["delivered"], lost["events"]["pending"]) == (40, 0, 0)
        assert lost["events"]["last_error"]
        begun = time.monotonic()
        assert server.end(signal.SIGTERM) in (0, -signal.SIGTERM)  # uvicorn raises the signal again when all is done
        assert "Application shutdown complete" in server.log.read_text()
        assert time.monotonic() - begun < 10


def test_every_answer_and_every_feedback_is_an_event(python: Path, trained: World, tmp_path: Path) -> None:
    trained.point("production", 1)
    broker = subprocess.Popen([python, "-c", BROKER], stdout=subprocess.PIPE, text=True)
    assert broker.stdout is not None
    try:
        address = broker.stdout.readline().strip()
        with mlserver(python, tmp_path, **settings(trained, kafka=address, models=MODELS[:1], delivery_s=20)) as server:
            eventually(lambda: states(server), lambda found: found == ["ready"], "it is loaded")
            answer = server.post("/infer", {"inputs": ROWS, "key": "müller"}).json()
            server.post("/feedback", {"id": answer["id"], "correct": False, "value": [2.5, 1], "comment": "too low"})
            counts = eventually(lambda: health(server)["events"], lambda found: found["delivered"] == 2, "both are delivered")
            assert (counts["undelivered"], counts["pending"]) == (0, 0)
        found = {}
        for _ in range(2):
            topic, key, value = broker.stdout.readline().rstrip("\n").split("\t")
            found[topic] = key, json.loads(value)
    finally:
        broker.kill()
        broker.wait()
        broker.stdout.close()
    key, result = found["ml_inference_results"]
    assert (key, result["key"], result["id"], result["inputs"]) == ("müller", "müller", answer["id"], ROWS)
    assert (result["model"], result["assigned"]) == (answer["model"], "houses@production")
    assert result["predictions"] == [1.0, 1.0]
    assert result["server"].startswith("registry.example.com/")
    key, feedback = found["ml_inference_feedback"]
    assert (key, feedback["id"], feedback["correct"]) == (answer["id"], answer["id"], False)
    assert (feedback["value"], feedback["comment"]) == ([2.5, 1], "too low")


def test_what_is_wrong_with_a_request_is_told_as_json(server: Process) -> None:
    infer, before = server.url + "/infer", health(server)["events"]["sent"]
    assert error(server.post("/infer", {"inputs": []})) == (422, "invalid_request")
    assert error(server.post("/infer", {"inputs": ROWS, "keys": "a"})) == (422, "invalid_request")
    assert error(requests.post(infer, data="{", timeout=10)) == (422, "invalid_request")
    assert error(server.post("/infer", {"inputs": [{"rooms": 1}]})) == (422, "refused_inputs")
    assert error(server.post("/infer", {"inputs": [{"rooms": "three", "area": 1}]})) == (422, "refused_inputs")
    assert error(server.post("/feedback", {"id": "7", "correct": True})) == (422, "invalid_request")
    assert error(server.post("/feedback", {"id": str(uuid4())})) == (422, "empty_feedback")
    assert error(server.get("/nothing")) == (404, "http")
    assert error(server.get("/infer")) == (405, "http")
    large = b"[" + b" " * 600_000 + b"]"
    assert error(requests.post(infer, data=large, timeout=10)) == (413, "too_large")
    parts = (large[start : start + 65536] for start in range(0, len(large), 65536))
    assert error(requests.post(infer, data=parts, timeout=10)) == (413, "too_large")
    assert health(server)["events"]["sent"] == before


def test_a_version_that_cannot_be_loaded_is_named_and_the_last_one_serves(python: Path, trained: World, tmp_path: Path) -> None:
    trained.point("production", 1)
    with mlserver(python, tmp_path, **settings(trained, models=MODELS[:1])) as server:
        eventually(lambda: states(server), lambda found: found == ["ready"], "it is loaded")
        trained.lose_files(4)
        trained.point("production", 4)
        eventually(lambda: states(server), lambda found: found == ["failed"], "the fault is seen")
        assert (server.get("/health").status_code, health(server)["status"]) == (200, "degraded")
        assert "cannot be loaded" in health(server)["models"][0]["detail"]
        assert server.post("/infer", {"inputs": ROWS}).json()["model"]["version"] == "1"
    # A server that is deployed with it is a bad deploy.
    with mlserver(python, tmp_path, **settings(trained, models=MODELS[:1])) as server:
        eventually(lambda: states(server), lambda found: found == ["failed"], "the fault is seen")
        assert (server.get("/health").status_code, health(server)["status"]) == (503, "failing")
        assert error(server.post("/infer", {"inputs": ROWS})) == (503, "no_model")
    trained.point("production", 1)


def test_a_registry_that_goes_away_takes_no_model_along(trained: World, server: Process) -> None:
    with trained.mlflow.hanging():
        eventually(lambda: health(server)["models"][0]["detail"], bool, "it is said")
        assert "does not answer" in health(server)["models"][0]["detail"]
        assert server.post("/infer", {"inputs": ROWS}).status_code == 200
    eventually(lambda: health(server)["status"], lambda found: found == "ok", "it is there again")


def test_a_server_that_finds_no_registry_waits_for_it(python: Path, trained: World, tmp_path: Path) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    with mlserver(python, tmp_path, **settings(trained, tracking_uri=nobody)) as server:
        assert (server.get("/health").status_code, health(server)["status"]) == (503, "failing")
        assert error(server.post("/infer", {"inputs": ROWS})) == (503, "starting")


@pytest.mark.parametrize(("text", "sentence"), [(None, "cannot be read"), ('{"models": []}', "tracking_uri: Field required")])
def test_a_configuration_that_is_wrong_ends_it_at_once(python: Path, tmp_path: Path, text: str | None, sentence: str) -> None:
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    environment = {"MLSERVER_CONFIG": str(tmp_path / "config.json"), "PYTHONPATH": "layers/apps/mlserver", "PATH": os.defpath}
    argv = [python, "-m", "mlserver"]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
