"""Runs the server: `python -m mlserver`."""

from __future__ import annotations

import logging
import os

from mlserver.config import ConfigError, read_config, read_release

# MLflow's client would try for minutes; the server itself asks again, and says meanwhile how it stands.
_CLIENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "GIT_PYTHON_REFRESH": "quiet",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


def main() -> None:
    """Serves until it is told to stop."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        config = read_config()
    except ConfigError as error:
        raise SystemExit(f"mlserver: {error}") from error
    for name, value in _CLIENT.items():
        os.environ.setdefault(name, value)

    import uvicorn

    from mlserver.app import create_app
    from mlserver.events import KafkaEvents
    from mlserver.mlflow_registry import MlflowRegistry
    from mlserver.models import Models

    models = Models(config.models, MlflowRegistry(config.tracking_uri), config.poll_s)
    app = create_app(config, read_release(), models, KafkaEvents(config.kafka, config.delivery_s))
    uvicorn.run(
        app,
        host=os.environ.get("MLSERVER_HOST", "0.0.0.0"),  # noqa: S104  (a container's own network)
        port=int(os.environ.get("MLSERVER_PORT", "8000")),
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=10,
    )


if __name__ == "__main__":
    main()
