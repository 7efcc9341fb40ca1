"""What Kafka's programs are told and answer. The texts are what Kafka 4.0.1 prints."""

from __future__ import annotations
