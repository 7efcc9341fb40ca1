"""Compose files of the lab's services and apps, from data.

Each is the document under `layers/services/<name>` or `layers/apps/<name>`, in Compose's own language, with the typed settings of
`lab.yaml` put in. YAML is never joined from strings.

Pure: no clock, no network, no random value, no secret. The same request gives the same text.
"""

from labctl.services.apps import AppRequest, Reached, app_text
from labctl.services.request import ServiceRequest
from labctl.services.text import compose_text

__all__ = ["AppRequest", "Reached", "ServiceRequest", "app_text", "compose_text"]
