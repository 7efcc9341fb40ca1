"""An app's Compose file as text."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from labctl.cloudinit.layerfiles import layer_text
from labctl.cloudinit.yamltext import yaml_text
from labctl.model.apps import FEEDBACK_TOPIC, RESULTS_TOPIC, AppSpec, MlserverApp, WebApp
from labctl.model.errors import LabError
from labctl.services.text import LOGGING, parse

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Reached:
    """Something that an app uses. Both may be Terraform tokens.

    Attributes:
        inside: `host:port` on its Docker network.
        network: That network.
    """

    inside: str
    network: str


@dataclass(frozen=True, slots=True)
class AppRequest:
    """Input of `app_text`. Nothing in it is secret.

    Attributes:
        app: The app that the file is for.
        image: Its image, `name@sha256:…`, or a Terraform token.
        uses: The services and apps that it needs, by name.
    """

    app: AppSpec
    image: str
    uses: Mapping[str, Reached]


def app_text(request: AppRequest) -> str:
    """The Compose file of an app.

    Raises:
        LabError: The file does not join the networks of what the app needs, or does not read back as what was written.
    """
    app, settings = request.app, request.app.settings
    document = parse(layer_text(f"apps/{app.name}/compose.yaml"))
    _join(document, request)
    template = {
        "image": request.image,
        "restart": "unless-stopped",
        "mem_limit": f"{settings.memory_mib}m",
        "logging": LOGGING,
    } | document["services"][app.name]
    template.setdefault("environment", {})
    _SETTERS[app.name](document, template, request)
    document["services"] = {
        container: {**deepcopy(template), "ports": [f"{port}:{app.kind.inside}"]}
        for container, port in zip(app.containers, settings.ports, strict=True)
    }
    document = {"name": app.name, **document}
    text = yaml_text(document)
    if parse(text) != document:
        raise LabError(f"the Compose file of {app.name} does not read back as it was written", hint="This is a bug in labctl.")
    return text


def literal(text: str) -> str:
    """`text` as Compose reads it back: there a dollar begins a variable."""
    return text.replace("$", "$$")


def _join(document: Document, request: AppRequest) -> None:
    joined = {name for name, network in document["networks"].items() if network.get("external")}
    if joined != set(request.uses):
        odd = ", ".join(sorted(joined ^ set(request.uses)))
        raise LabError(f"layers/apps/{request.app.name} and labctl.model.apps differ about what it uses: {odd}")
    for name, reached in request.uses.items():
        document["networks"][name]["name"] = reached.network


def _mlserver(document: Document, template: Document, request: AppRequest) -> None:
    settings = request.app.settings
    assert isinstance(settings, MlserverApp)  # the model has one class an app
    config = {
        "tracking_uri": f"http://{request.uses['mlflow'].inside}",
        "kafka": request.uses["kafka"].inside,
        "topics": {"results": RESULTS_TOPIC, "feedback": FEEDBACK_TOPIC},
        "poll_s": settings.poll_s,
        "models": [{"name": literal(model.name), "alias": model.alias, "weight": model.weight} for model in settings.models],
    }
    document["configs"] = {"config": {"content": json.dumps(config, indent=2, ensure_ascii=False) + "\n"}}
    template["environment"] |= {"MLSERVER_IMAGE": request.image, "MLSERVER_PORT": str(request.app.kind.inside)}


def _web(_document: Document, template: Document, request: AppRequest) -> None:
    settings = request.app.settings
    assert isinstance(settings, WebApp)
    template["environment"] |= {
        "PORT": str(request.app.kind.inside),
        "MLSERVER_URL": f"http://{request.uses['mlserver'].inside}",
        "WEB_IMAGE": request.image,
        "WEB_TITLE": literal(settings.title),
        "WEB_SAMPLE": literal(settings.sample),
    }


_SETTERS: Mapping[str, Callable[[Document, Document, AppRequest], None]] = {"mlserver": _mlserver, "web": _web}
