"""A service's Compose file as text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ruamel.yaml import YAML

from labctl.cloudinit.layerfiles import layer_text
from labctl.cloudinit.yamltext import yaml_text
from labctl.model.compose import ONE_SHOT_LABEL
from labctl.model.errors import LabError
from labctl.services.request import ServiceRequest
from labctl.services.settings import SETTERS, Document

LOGGING = {"driver": "local", "options": {"max-size": "10m", "max-file": "3"}}
_ONE_SHOT_MIB = 256


def compose_text(request: ServiceRequest) -> str:
    """The Compose file of a service.

    Raises:
        LabError: The file takes other secrets than the service is given, or does not read back as what was written.
    """
    name, settings = request.service.name, request.service.settings
    document = parse(layer_text(f"services/{name}/compose.yaml"))
    _check_secrets(request, document)
    for key, service in document["services"].items():
        one_shot = ONE_SHOT_LABEL in service.get("labels", {})
        common: dict[str, Any] = {
            "image": request.service.image,
            "restart": "no" if one_shot else "unless-stopped",
            "mem_limit": f"{_ONE_SHOT_MIB if one_shot else settings.memory_mib}m",
            "logging": LOGGING,
        }
        if key == name:
            common["ports"] = [f"{settings.port}:{request.service.listens}"]
        document["services"][key] = common | service
    SETTERS[name](document, request)
    document = {"name": name, **document}
    text = yaml_text(document)
    if parse(text) != document:
        raise LabError(f"the Compose file of {name} does not read back as it was written", hint="This is a bug in labctl.")
    return text


def parse(text: str) -> Document:
    """The data of a Compose file.

    Raises:
        ruamel.yaml.error.YAMLError: The text is not YAML.
    """
    document: Document = YAML(typ="safe", pure=True).load(text)
    return document


def _check_secrets(request: ServiceRequest, document: Mapping[str, Any]) -> None:
    taken = {secret["environment"] for secret in document.get("secrets", {}).values()}
    given = set(request.service.kind.secrets)
    if taken != given:
        odd = ", ".join(sorted(taken ^ given))
        raise LabError(f"layers/services/{request.service.name} and labctl.model.services differ about the secrets {odd}")
