"""A plan as bytes and back: what the daemon sends to the renderer's child, and what comes back. No IO.

Strict in both directions, so that a difference between the two processes is a refusal and not a guess.
"""

from __future__ import annotations

import json
from dataclasses import asdict, fields, is_dataclass
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from google.protobuf.message import DecodeError

from toposeal._wire import xds_pb2 as wire
from toposeal.dataplane.discovery import Kind, Offer, Update
from toposeal.dataplane.envoy_plan import PodPlan
from toposeal.errors import LocalProtocolError, Reason

T = TypeVar("T")


def encode_plan(plan: PodPlan) -> bytes:
    return json.dumps(asdict(plan)).encode("ascii")


def decode_plan(data: bytes) -> PodPlan:
    """Raises LocalProtocolError unless `data` is exactly one encoded plan."""
    return _typed(PodPlan, _parsed(data), "plan")


def encode_rendered(update: Update) -> bytes:
    """Clusters and listeners of one version."""
    clusters, listeners = update[Kind.CLUSTER], update[Kind.LISTENER]
    message = wire.Rendered(
        version=clusters.version,
        clusters=[wire.Resource(name=name, value=data) for name, data in clusters.resources.items()],
        listeners=[wire.Resource(name=name, value=data) for name, data in listeners.resources.items()],
    )
    return message.SerializeToString(deterministic=True)


def decode_rendered(data: bytes, version: str) -> Update:
    """Raises LocalProtocolError unless `data` is exactly one update of that `version`."""
    message = wire.Rendered()
    try:
        message.ParseFromString(data)
    except DecodeError as error:
        raise _refusal("rendered", type(error).__name__, "an update") from error
    update = {
        kind: Offer(message.version, {resource.name: resource.value for resource in resources})
        for kind, resources in ((Kind.CLUSTER, message.clusters), (Kind.LISTENER, message.listeners))
    }
    if encode_rendered(update) != data or not all(offer.resources for offer in update.values()):
        raise _refusal("rendered", "an answer of another form", "clusters and listeners")
    if message.version != version:
        raise _refusal("rendered.version", message.version, version)
    return update


def _parsed(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise _refusal("request", type(error).__name__, "JSON") from error


def _typed(kind: type[T], value: Any, name: str) -> T:
    """`value` as `kind`: a dataclass of this package, a tuple of one element type, or a plain value."""
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        names = [field.name for field in fields(kind)]
        if not isinstance(value, dict) or sorted(value) != sorted(names):
            raise _refusal(name, type(value).__name__, f"{kind.__name__}: {names}")
        return kind(**{n: _typed(hints[n], value[n], f"{name}.{n}") for n in names})
    if get_origin(kind) is tuple:
        if not isinstance(value, list):
            raise _refusal(name, type(value).__name__, "a list")
        element = get_args(kind)[0]
        return kind(_typed(element, item, name) for item in value)  # type: ignore[call-arg]
    if type(value) is not kind:
        raise _refusal(name, type(value).__name__, kind.__name__)
    return value


def _refusal(name: str, found: object, expected: str) -> LocalProtocolError:
    return LocalProtocolError.of(Reason.INTERNAL, name, found, expected)
