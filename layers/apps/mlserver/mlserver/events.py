"""Events to Kafka. A broker that is away never makes a request wait or fail; what it did not get is counted."""

from __future__ import annotations

import json
import logging
import threading
from dataclasses import asdict, dataclass
from typing import Any, Protocol

logger = logging.getLogger(__name__)

CLOSE_S = 5.0
"""How long the server's end waits for events that are still on their way."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of the events since the server started.

    Attributes:
        sent: Handed over.
        delivered: Confirmed by the broker.
        undelivered: Given up: the broker was away too long, refused it, or too many were waiting.
        pending: Neither yet.
        last_error: Why the last one was given up, or what the client last said of its broker; "" if nothing.
    """

    sent: int = 0
    delivered: int = 0
    undelivered: int = 0
    pending: int = 0
    last_error: str = ""

    def as_dict(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


class Events(Protocol):
    """Where events go."""

    def send(self, topic: str, key: str, event: dict[str, Any]) -> None:
        """Hands an event over, and returns at once. Never raises."""

    def counts(self) -> Counts:
        """What became of all so far."""

    def close(self) -> None:
        """Waits a moment for what is on its way."""


class KafkaEvents:
    """Events to Kafka, in the background.

    Args:
        servers: Bootstrap servers.
        delivery_s: How long an event may wait for a broker.
        more: Further settings of librdkafka.
    """

    def __init__(self, servers: str, delivery_s: float, more: dict[str, Any] | None = None) -> None:
        from confluent_kafka import Producer

        self._lock = threading.Lock()
        self._sent = self._delivered = self._undelivered = 0
        self._last_error = ""
        self._said: set[str] = set()
        self._stop = threading.Event()
        self._producer = Producer(
            {
                "bootstrap.servers": servers,
                "client.id": "mlserver",
                "acks": "all",
                "enable.idempotence": True,
                "linger.ms": 20,
                "message.timeout.ms": int(delivery_s * 1000),
                "queue.buffering.max.messages": 20_000,
                "queue.buffering.max.kbytes": 65_536,
                "reconnect.backoff.max.ms": 10_000,
                # Else each attempt to reach a broker that is away is a line; `error_cb` says it once.
                "log.connection.close": False,
                "log_level": 2,
                "error_cb": self._failed,
                **(more or {}),
            }
        )
        self._thread = threading.Thread(target=self._serve, name="kafka-delivery", daemon=True)
        self._thread.start()

    def send(self, topic: str, key: str, event: dict[str, Any]) -> None:
        """Hands an event over, and returns at once. Never raises."""
        from confluent_kafka import KafkaException

        with self._lock:
            self._sent += 1
        try:
            self._producer.produce(
                topic,
                key=key.encode(),
                value=json.dumps(event, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode(),
                on_delivery=self._done,
            )
        except BufferError:
            self._lost("full", "too many are waiting for the broker")
        except (KafkaException, ValueError, TypeError) as error:
            self._lost(type(error).__name__, str(error))

    def counts(self) -> Counts:
        """What became of all so far."""
        with self._lock:
            pending = self._sent - self._delivered - self._undelivered
            return Counts(self._sent, self._delivered, self._undelivered, pending, self._last_error)

    def close(self) -> None:
        """Waits `CLOSE_S` for what is on its way."""
        self._stop.set()
        self._thread.join(CLOSE_S)
        if left := self._producer.flush(CLOSE_S):
            logger.warning("%d events were not delivered before the end", left)

    def _serve(self) -> None:
        while not self._stop.is_set():
            self._producer.poll(0.5)

    def _done(self, error: Any, _message: Any) -> None:
        if error is not None:
            self._lost(f"lost {error.name()}", error.str())
            return
        with self._lock:
            self._delivered += 1
            self._said.clear()

    def _lost(self, kind: str, reason: str) -> None:
        with self._lock:
            self._undelivered += 1
        self._note(kind, f"an event was not delivered: {reason}")

    def _failed(self, error: Any) -> None:
        self._note(error.name(), error.str())

    def _note(self, kind: str, sentence: str) -> None:
        """Keeps it for `counts`; logs the first of a kind since an event was last delivered."""
        with self._lock:
            known = kind in self._said
            self._said.add(kind)
            self._last_error = sentence
        if not known:
            logger.warning("Kafka: %s", sentence)
