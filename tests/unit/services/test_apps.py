"""What the apps' Compose files say, and that the apps understand it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from labctl.model.apps import APP_KINDS, AppSpec, MlserverApp, WebApp
from labctl.model.errors import LabError
from labctl.services import AppRequest, Reached, app_text
from mlserver.config import Config

IMAGE = "gitlab.lab.internal:5050/lab/apps/app@sha256:" + "a" * 64
MODELS: list[Any] = [{"name": "houses", "weight": 9}, {"name": 'cost $x ${y} $$z "quoted" ü', "alias": "canary"}]
USES = {
    "mlserver": {"kafka": Reached("kafka:29092", "lab-kafka"), "mlflow": Reached("mlflow:5000", "lab-mlflow")},
    "web": {"mlserver": Reached("mlserver:8000", "lab-mlserver")},
}


def spec(name: str, **settings: Any) -> AppSpec:
    kind = {"mlserver": MlserverApp, "web": WebApp}[name]
    more = {"models": MODELS} if name == "mlserver" else {}
    return AppSpec(name, kind.model_validate(more | settings), f"lab/apps/{name}", {"BASE_IMAGE": "base"})


def rendered(app: AppSpec) -> dict[str, Any]:
    return dict(yaml.safe_load(app_text(AppRequest(app, IMAGE, USES[app.name]))))


def interpolated(text: str) -> str:
    """As Compose does it: `$$` is a dollar, and there is no variable."""
    assert not re.search(r"(?<!\$)(\$\$)*\$(?!\$)", text), f"a variable that nobody wrote: {text}"
    return text.replace("$$", "$")


def test_mlserver_reads_what_it_is_given() -> None:
    document = rendered(spec("mlserver", poll_s=7))
    config = Config.model_validate_json(interpolated(document["configs"]["config"]["content"]))
    assert [(model.name, model.alias, model.weight) for model in config.models] == [
        ("houses", "production", 9.0),
        (MODELS[1]["name"], "canary", 1.0),
    ]
    assert (config.tracking_uri, config.kafka, config.poll_s) == ("http://mlflow:5000", "kafka:29092", 7.0)
    assert (config.topics.results, config.topics.feedback) == ("ml_inference_results", "ml_inference_feedback")


def test_whatever_may_be_written_as_a_model_is_read() -> None:
    """Both sides have the same rules for names, so that a lab that is accepted is one that runs."""
    from labctl.model import apps
    from mlserver import config

    for name in ("ModelName", "Alias"):
        ours, theirs = getattr(apps, name).__metadata__[0], getattr(config, name).__metadata__[0]
        assert (ours.pattern, ours.max_length) == (theirs.pattern, theirs.max_length)


@pytest.mark.parametrize("name", APP_KINDS)
def test_each_replica_has_a_port_of_its_own_and_all_have_one_name(name: str) -> None:
    app = spec(name, replicas=3, port=9000)
    services = rendered(app)["services"]
    assert {key: service["ports"] for key, service in services.items()} == {
        name: [f"9000:{app.kind.inside}"],
        f"{name}-2": [f"9001:{app.kind.inside}"],
        f"{name}-3": [f"9002:{app.kind.inside}"],
    }
    for service in services.values():
        assert service["networks"]["default"] == {"aliases": [name]}
        assert {key: value for key, value in service.items() if key != "ports"} == {
            key: value for key, value in services[name].items() if key != "ports"
        }


@pytest.mark.parametrize("name", APP_KINDS)
def test_a_second_replica_leaves_the_first_as_it_is(name: str) -> None:
    assert rendered(spec(name, replicas=2))["services"][name] == rendered(spec(name))["services"][name]


@pytest.mark.parametrize("name", APP_KINDS)
def test_no_app_has_more_rights_than_it_needs(name: str) -> None:
    app = spec(name)
    document = rendered(app)
    service = document["services"][name]
    assert (service["cap_drop"], service["security_opt"]) == (["ALL"], ["no-new-privileges:true"])
    assert (service["image"], service["restart"]) == (IMAGE, "unless-stopped")
    assert service["mem_limit"] == f"{app.settings.memory_mib}m"
    assert service["logging"]["options"]["max-size"]
    assert not {"volumes", "privileged", "network_mode"} & service.keys()
    assert "USER 10001:10001" in Path(f"layers/apps/{name}/Dockerfile").read_text()
    assert document["networks"]["default"] == {"name": app.network}
    joined = {key: value for key, value in document["networks"].items() if key != "default"}
    assert joined == {key: {"external": True, "name": reached.network} for key, reached in USES[name].items()}


def test_web_is_told_where_mlserver_is_and_what_to_show() -> None:
    environment = rendered(spec("web", title="Cost in $ of ${HOME}", sample='[{"a": "$1"}]'))["services"]["web"]["environment"]
    assert {key: interpolated(value) for key, value in environment.items()} == {
        "PORT": "3000",
        "MLSERVER_URL": "http://mlserver:8000",
        "WEB_IMAGE": IMAGE,
        "WEB_TITLE": "Cost in $ of ${HOME}",
        "WEB_SAMPLE": '[{"a": "$1"}]',
    }


def test_a_file_that_joins_other_networks_than_the_app_needs_is_refused() -> None:
    with pytest.raises(LabError, match=r"layers/apps/web and labctl\.model\.apps differ about what it uses: mlserver"):
        app_text(AppRequest(spec("web"), IMAGE, {}))
