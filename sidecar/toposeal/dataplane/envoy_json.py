"""Envoy's configuration as people read it: JSON, two spaces, one final newline. No IO."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from toposeal.dataplane.layout import CLUSTERS_FILE, LISTENERS_FILE

Json = dict[str, Any]

_PREFIX = "type.googleapis.com/envoy."
LISTENER_TYPE = _PREFIX + "config.listener.v3.Listener"
CLUSTER_TYPE = _PREFIX + "config.cluster.v3.Cluster"
SECRET_TYPE = _PREFIX + "extensions.transport_sockets.tls.v3.Secret"
TCP_PROXY_TYPE = _PREFIX + "extensions.filters.network.tcp_proxy.v3.TcpProxy"
ORIGINAL_DST_TYPE = _PREFIX + "extensions.filters.listener.original_dst.v3.OriginalDst"
TLS_INSPECTOR_TYPE = _PREFIX + "extensions.filters.listener.tls_inspector.v3.TlsInspector"
STDOUT_LOG_TYPE = _PREFIX + "extensions.access_loggers.stream.v3.StdoutAccessLog"
ACCESS_FILTER_TYPE = _PREFIX + "extensions.access_loggers.filters.cel.v3.ExpressionFilter"
HTTP_OPTIONS_TYPE = _PREFIX + "extensions.upstreams.http.v3.HttpProtocolOptions"
CONNECTION_LIMIT_TYPE = (
    _PREFIX + "extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig"
)
FIXED_HEAP_TYPE = _PREFIX + "extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig"


def document(value: Mapping[str, Any]) -> bytes:
    """The file that says `value`; fields stay in the order given, which is that of Envoy's schema."""
    return json.dumps(value, indent=2).encode("ascii") + b"\n"


def response(kind: str, version: str, resources: Sequence[Json]) -> bytes:
    """A discovery response of `resources`, each without its `@type`, which is `kind`."""
    return document(
        {
            "version_info": version,
            "resources": [{"@type": kind, **resource} for resource in resources],
            "type_url": kind,
        }
    )


def xds(version: str, clusters: Sequence[Json], listeners: Sequence[Json]) -> dict[str, bytes]:
    """Both responses that make up an update, as files."""
    return {
        CLUSTERS_FILE: response(CLUSTER_TYPE, version, clusters),
        LISTENERS_FILE: response(LISTENER_TYPE, version, listeners),
    }


def discovered() -> Json:
    """The source of everything but the bootstrap: the one stream that Envoy opens to the daemon."""
    return {"ads": {}, "resource_api_version": "V3"}


def tcp_address(address: str, port: int) -> Json:
    """`address` is an IP literal."""
    return {"socket_address": {"address": address, "port_value": port}}
