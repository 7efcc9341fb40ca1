"""Inference over MLflow models: chosen by weight, sticky by key, every answer and every feedback an event in Kafka."""
