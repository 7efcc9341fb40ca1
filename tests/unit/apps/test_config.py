from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mlserver.config import ConfigError, Release, read_config, read_release

MODEL = {"name": "houses", "alias": "production", "weight": 9}
GOOD: dict[str, Any] = {"tracking_uri": "http://mlflow:5000", "kafka": "kafka:29092", "models": [MODEL]}


def write(folder: Path, value: object) -> dict[str, str]:
    path = folder / "config.json"
    path.write_text(json.dumps(value))
    return {"MLSERVER_CONFIG": str(path)}


def test_what_is_left_out_has_a_default(tmp_path: Path) -> None:
    config = read_config(write(tmp_path, GOOD))
    assert (str(config.models[0]), config.models[0].weight, config.poll_s) == ("houses@production", 9.0, 30.0)
    assert (config.topics.results, config.topics.feedback) == ("ml_inference_results", "ml_inference_feedback")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"models": []}, "models: Tuple should have at least 1 item"),
        ({"models": [MODEL, MODEL]}, "houses@production is listed 2 times"),
        ({"models": [MODEL | {"weight": 0}]}, r"models\.0\.weight: Input should be greater than 0"),
        ({"models": [MODEL | {"weight": float("inf")}]}, r"models\.0\.weight|not a valid JSON|Invalid JSON"),
        ({"models": [MODEL | {"name": "a/b"}]}, r"models\.0\.name"),
        ({"kafak": "x"}, "kafak: Extra inputs are not permitted"),
    ],
)
def test_a_wrong_one_is_refused_by_name(tmp_path: Path, change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        read_config(write(tmp_path, GOOD | change))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.json cannot be read: No such file"):
        read_config({"MLSERVER_CONFIG": str(tmp_path / "none.json")})


def test_the_release_tells_the_digest() -> None:
    image = "gitlab.lab.internal:5050/lab/apps/mlserver@sha256:" + "a" * 64
    assert read_release({"MLSERVER_VERSION": "1", "MLSERVER_IMAGE": image}).digest == "sha256:" + "a" * 64
    assert read_release({}) == Release("unreleased", "")
    assert Release("1", "mlserver:1").digest == ""
