"""The registry of models, as MLflow's tracking server has it. The only module that knows MLflow's client."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import mlflow
import pandas as pd
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PyFuncModel
from mlflow.utils.proto_json_utils import cast_df_types_according_to_schema

from mlserver.models import Refused, Unreachable


class MlflowRegistry:
    """Models of a tracking server.

    Args:
        tracking_uri: The server.
    """

    def __init__(self, tracking_uri: str) -> None:
        mlflow.set_tracking_uri(tracking_uri)
        self._uri = tracking_uri
        self._client = MlflowClient(tracking_uri)

    def version(self, name: str, alias: str) -> str | None:
        """The version that an alias points at, None where there is no such model or alias.

        Raises:
            Unreachable: The server does not answer.
        """
        try:
            return str(self._client.get_model_version_by_alias(name, alias).version)
        except MlflowException as error:
            # For an alias that is not there the store answers INVALID_PARAMETER_VALUE, for a model RESOURCE_DOES_NOT_EXIST.
            no_alias = error.error_code == "INVALID_PARAMETER_VALUE" and "not found" in str(error)
            if no_alias or error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise Unreachable(f"MLflow at {self._uri} does not answer as it should: {str(error).splitlines()[0]}") from error

    def load(self, name: str, version: str) -> MlflowPredictor:
        """A version of a model, as a Python function. Raises whatever is wrong with it."""
        return MlflowPredictor(mlflow.pyfunc.load_model(f"models:/{name}/{version}"))


class MlflowPredictor:
    """A model of any MLflow flavour as a Python function over rows."""

    def __init__(self, model: PyFuncModel) -> None:
        self._model = model
        self._schema = model.metadata.get_input_schema()

    def predict(self, rows: Sequence[Any]) -> list[Any]:
        """One prediction a row, as plain data.

        Raises:
            Refused: The rows are not what the model takes.
        """
        try:
            frame = pd.DataFrame(rows)
            if self._schema is not None:
                # JSON has one kind of number; the schema says which the model wants.
                frame = cast_df_types_according_to_schema(frame, self._schema)
            return plain(self._model.predict(frame))
        except MlflowException as error:
            raise Refused(str(error)) from error
        except (ValueError, TypeError, KeyError) as error:
            raise Refused(f"{type(error).__name__}: {error}") from error


def plain(value: Any) -> Any:
    """What a model answered as JSON can hold it: arrays and frames are lists, a number that is none is null."""
    if isinstance(value, pd.DataFrame):
        return plain(value.to_dict(orient="records"))
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value if value is None or isinstance(value, str | int | bool) else str(value)
