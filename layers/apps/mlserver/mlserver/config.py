"""What the server is told: one JSON file, which its Compose project brings along. Nothing in it is secret."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

CONFIG_FILE = "/etc/mlserver/config.json"

# MLflow's own rules: a registered model's name has neither "/" nor ":", an alias letters, digits, "_" and "-".
ModelName = Annotated[str, StringConstraints(pattern=r"^[^/:@\s]+( [^/:@\s]+)*$", max_length=250)]
Alias = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,250}$")]


class ConfigError(Exception):
    """The configuration cannot be used; the sentence says which file and what in it."""


class Choice(BaseModel):
    """A model that may answer.

    Attributes:
        name: The registered model.
        alias: The alias of the version that serves; when it moves, the server follows.
        weight: Its share of the keys, relative to the other weights.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: ModelName
    alias: Alias
    weight: float = Field(1.0, gt=0, le=1e6, allow_inf_nan=False)

    def __str__(self) -> str:
        return f"{self.name}@{self.alias}"


class Topics(BaseModel):
    """Where events go."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    results: str = "ml_inference_results"
    feedback: str = "ml_inference_feedback"


class Config(BaseModel):
    """The server's settings.

    Attributes:
        tracking_uri: MLflow's tracking server.
        kafka: Kafka's bootstrap servers, `host:port` separated by commas.
        models: The models that share the requests.
        poll_s: How often it is looked whether an alias has moved.
        delivery_s: How long an event may wait for a broker before it counts as undelivered.
        topics: Where events go.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    tracking_uri: str = Field(min_length=1)
    kafka: str = Field(min_length=1)
    models: tuple[Choice, ...] = Field(min_length=1)
    poll_s: float = Field(30.0, gt=0, le=3600)
    delivery_s: float = Field(60.0, ge=1, le=900)
    topics: Topics = Topics()

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        for name, count in Counter(str(choice) for choice in self.models).items():
            if count > 1:
                raise ValueError(f"{name} is listed {count} times")
        return self


@dataclass(frozen=True, slots=True)
class Release:
    """What of this program runs.

    Attributes:
        version: The version that it was built as.
        image: `name@sha256:…` of the image that it was deployed from; "" outside a container.
    """

    version: str
    image: str

    @property
    def digest(self) -> str:
        """`sha256:…`, "" where it is not known."""
        return self.image.rpartition("@")[2] if "@" in self.image else ""


def read_config(environment: Mapping[str, str] = os.environ) -> Config:
    """The settings in the file that `MLSERVER_CONFIG` names.

    Raises:
        ConfigError: The file cannot be read, or is not a configuration.
    """
    path = Path(environment.get("MLSERVER_CONFIG") or CONFIG_FILE)
    try:
        return Config.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}; MLSERVER_CONFIG names the file") from error
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in item['loc']) or 'the file'}: {item['msg']}"
            for item in error.errors(include_url=False)
        )
        raise ConfigError(f"{path}: {problems}") from error


def read_release(environment: Mapping[str, str] = os.environ) -> Release:
    """Version and image, from `MLSERVER_VERSION` and `MLSERVER_IMAGE`."""
    return Release(environment.get("MLSERVER_VERSION") or "unreleased", environment.get("MLSERVER_IMAGE") or "")
