"""The framework `tf` 1.2.0, and what it lacks. Each mend says which gap it is for; what upstream mends, goes here.

The package has no types: what comes from it is `Any` here and nowhere else.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import tf.provider
import tf.runner
import tf.utils
from tf.iface import PlanContext, Provider, Resource
from tf.schema import Attribute, Schema
from tf.types import Bool, List, Map, Number, String, TfType, Unknown
from tf.utils import Diagnostics

__all__ = [
    "STOP",
    "Attribute",
    "Bool",
    "Diagnostics",
    "List",
    "Map",
    "Number",
    "Object",
    "Provider",
    "Resource",
    "Schema",
    "String",
    "Unknown",
    "serve",
]

STOP = threading.Event()
"""Set when Terraform tells its providers to stop what they are doing."""

QUIET_S = 3.0
"""A Terraform that is at work calls again within this time."""

WATCH_S = 0.5
"""How often a provider looks whether the Terraform that began it is there."""


class Object(TfType):  # type: ignore[misc]
    """Terraform's object type, which the framework does not have.

    Args:
        attributes: The type of each attribute.
    """

    def __init__(self, **attributes: Any) -> None:
        self._attributes = attributes

    def encode(self, value: Any) -> Any:
        """As Terraform's wire format has it."""
        return self._each(value, "encode")

    def decode(self, value: Any) -> Any:
        """From Terraform's wire format."""
        return self._each(value, "decode")

    def tf_type(self) -> bytes:
        """The type's description, in cty's JSON."""
        return json.dumps(["object", {name: json.loads(kind.tf_type()) for name, kind in self._attributes.items()}]).encode()

    def _each(self, value: Any, direction: str) -> Any:
        if value is None or value is Unknown:
            return value
        return {name: getattr(kind, direction)(value.get(name)) for name, kind in self._attributes.items()}


class _Work:
    """Calls that are being answered."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._running, self._ended = 0, 0.0

    def __enter__(self) -> None:
        with self._changed:
            self._running += 1

    def __exit__(self, *_raised: object) -> None:
        with self._changed:
            self._running, self._ended = self._running - 1, time.monotonic()
            self._changed.notify_all()

    def wait_for_rest(self, quiet_s: float) -> None:
        """Returns when none was answered for that long."""
        with self._changed:
            while self._running or (left := self._ended + quiet_s - time.monotonic()) > 0:
                self._changed.wait(None if self._running else left)


_CALLS, _CHANGES = _Work(), _Work()
"""What Terraform waits for, and of that what changes something."""


class _Servicer(tf.provider.ProviderServicer):  # type: ignore[misc]
    def PlanResourceChange(self, request: Any, context: Any) -> Any:  # noqa: N802 - a name of the protocol
        """Also asks the resource for the plan of a create: the framework itself leaves all that is computed unknown."""
        with _CALLS:
            return self._plan(request, context)

    def _plan(self, request: Any, context: Any) -> Any:
        response = super().PlanResourceChange(request, context)
        attributes, blocks = self._get_res_attrs(request.type_name), self._get_res_blocks(request.type_name)
        diagnostics = Diagnostics()
        prior = tf.provider._decode_state(diagnostics, attributes, blocks, request.prior_state)[1]
        if prior is None and response.planned_state.msgpack:
            encoded, planned = tf.provider._decode_state(diagnostics, attributes, blocks, response.planned_state)
            resource = self.app.new_resource(self._get_res_cls(request.type_name))
            planned = resource.plan(PlanContext(diagnostics, request.type_name, set()), None, planned)
            response.planned_state.CopyFrom(tf.provider._encode_state(attributes, blocks, planned, encoded))
            response.diagnostics.extend(diagnostics.to_pb())
        return response

    def ReadResource(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Is known to be at work."""
        with _CALLS:
            return super().ReadResource(request, context)

    def ApplyResourceChange(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Is known to be at work, and to change something."""
        with _CALLS, _CHANGES:
            return super().ApplyResourceChange(request, context)

    def ConfigureProvider(self, request: Any, context: Any) -> Any:  # noqa: N802
        """A provider that several Terraforms attach to outlives the one that was told to stop."""
        STOP.clear()
        return super().ConfigureProvider(request, context)

    def StopProvider(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Tells the calls in flight."""
        STOP.set()
        return super().StopProvider(request, context)


class _Interceptor(tf.runner._ShutdownInterceptor):  # type: ignore[misc]
    def intercept_service(self, continuation: Callable[[Any], Any], details: Any) -> Any:
        """Lets calls in flight end by themselves on `StopProvider`, after which the framework kills them."""
        if details.method.endswith("/StopProvider"):
            return continuation(details)
        return super().intercept_service(continuation, details)


def serve(provider: Any, argv: list[str]) -> None:
    """Serves the provider: with `--dev` for all that attach to it, until standard input ends; else for the one that began it."""
    # A value that is unknown but for, say, its prefix comes as extension 12, which the framework does not know.
    tf.utils._msgpack_ext_hook = lambda _code, _data: Unknown
    tf.provider.ProviderServicer, tf.runner._ShutdownInterceptor = _Servicer, _Interceptor
    # Ctrl-C in a terminal goes to every process there; Terraform tells its providers itself. Not ignored, but without effect:
    # what is ignored stays so in the programs that are started, and those are to be interrupted.
    signal.signal(signal.SIGINT, lambda _number, _frame: None)
    # The framework keeps its socket in a folder that only an orderly end removes.
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(0))
    watch = _end_with_parent if "--dev" in argv else partial(_end_with_terraform, os.getppid())
    threading.Thread(target=watch, daemon=True).start()
    tf.runner.run_provider(provider, argv)


def _end_with_parent() -> None:
    """Whoever began this process holds the other end of its standard input: that ends with it, however it ends.

    A Terraform outlives a labctl that was killed, to finish what it does and store its state. So what it is at is finished here.
    """
    while os.read(0, 4096):
        pass
    _CALLS.wait_for_rest(QUIET_S)
    os.kill(os.getpid(), signal.SIGTERM)


def _end_with_terraform(terraform: int) -> None:
    """A Terraform that was killed neither stores what its provider does nor ends it.

    The next one would do the same at the same time. So what this one is at is stopped here.
    """
    while os.getppid() == terraform:
        time.sleep(WATCH_S)
    STOP.set()
    _CHANGES.wait_for_rest(0.0)
    os.kill(os.getpid(), signal.SIGTERM)


def changed(before: Mapping[str, Any] | None, after: Mapping[str, Any], *names: str) -> bool:
    """Whether one of these attributes is not what it was."""
    return before is None or any(before.get(name) != after.get(name) for name in names)
