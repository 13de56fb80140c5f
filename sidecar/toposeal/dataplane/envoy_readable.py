"""What Envoy is sent, as JSON for people and for `envoy --mode validate`. No IO.

It is read back from the bytes, so that what people see is what Envoy gets. Slow, and imports Envoy's types.
"""

from __future__ import annotations

from collections.abc import Iterable

import betterproto2
import envoy_data_plane.envoy.extensions.access_loggers.filters.cel.v3
import envoy_data_plane.envoy.extensions.access_loggers.stream.v3
import envoy_data_plane.envoy.extensions.filters.listener.original_dst.v3
import envoy_data_plane.envoy.extensions.filters.listener.tls_inspector.v3  # noqa: F401 - registers types
from envoy_data_plane.envoy.config.cluster.v3 import Cluster
from envoy_data_plane.envoy.config.listener.v3 import Listener

from toposeal.dataplane.discovery import Kind, Update
from toposeal.dataplane.envoy_json import Json, xds
from toposeal.dataplane.envoy_open import render
from toposeal.dataplane.envoy_plan import plan
from toposeal.dataplane.view import Layout, PodView


def opened(view: PodView, layout: Layout) -> dict[str, bytes]:
    """File name to JSON, LDS and CDS, of the Envoy of `view`. Raises LocalProtocolError if it is unsafe."""
    return readable(render(plan(view), layout))


def readable(update: Update) -> dict[str, bytes]:
    """The clusters and listeners of `update`, with the field names of Envoy's schema."""
    clusters, listeners = update[Kind.CLUSTER], update[Kind.LISTENER]
    return xds(
        clusters.version,
        _said(Cluster.parse(data) for data in clusters.resources.values()),
        _said(Listener.parse(data) for data in listeners.resources.values()),
    )


def _said(messages: Iterable[betterproto2.Message]) -> list[Json]:
    return [message.to_dict(casing=betterproto2.Casing.SNAKE) for message in messages]
