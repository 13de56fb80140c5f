"""Envoy's configuration before the seal: both listeners, nothing that a connection could reach. No IO.

Written without envoy_data_plane, whose import takes longer than Envoy's whole start: Envoy has to
hold its ports before anything else in the pod can take them (docs/adr/0003). The opened state
starts from these same listeners, so opening and closing never replace one. Envoy is sent them encoded;
`python tests/support/golden.py` encodes what is said here.
"""

from __future__ import annotations

from collections.abc import Sequence

from toposeal._wire import closed as encoded
from toposeal.dataplane.discovery import Kind, Offer, Update
from toposeal.dataplane.envoy_json import (
    ACCESS_FILTER_TYPE,
    CONNECTION_LIMIT_TYPE,
    FIXED_HEAP_TYPE,
    HTTP_OPTIONS_TYPE,
    ORIGINAL_DST_TYPE,
    STDOUT_LOG_TYPE,
    TCP_PROXY_TYPE,
    TLS_INSPECTOR_TYPE,
    Json,
    discovered,
    document,
    tcp_address,
    xds,
)
from toposeal.dataplane.layout import BOOTSTRAP_FILE
from toposeal.dataplane.refusals import FIELDS
from toposeal.dataplane.view import Layout
from toposeal.limits import (
    CONNECTION_BUFFER,
    ENVOY_HEAP,
    ENVOY_STUCK,
    HEAP_REFUSES,
    HEAP_SHRINKS,
    INBOUND_PORT,
    MAX_ENVOY_CONNECTIONS,
    MAX_INBOUND_CONNECTIONS,
    MAX_OUTBOUND_CONNECTIONS,
    OUTBOUND_PORT,
    OVERLOAD_REFRESH,
    TLS_INSPECTION_TIMEOUT,
)

BLACKHOLE = "blackhole"
CLOSED_VERSION = "closed"
CLOSED: Update = {
    Kind.CLUSTER: Offer(CLOSED_VERSION, encoded.CLUSTERS),
    Kind.LISTENER: Offer(CLOSED_VERSION, encoded.LISTENERS),
}
DISCOVERY = "xds"  # the only cluster that is not discovered itself
NODE_ID = "toposeal"
ADMIN_MODE = 0o600
# Envoy's own name for each; at the limit a connection is accepted, and closed.
_LISTENER_LIMITS = {
    "envoy.resource_limits.listener.in.connection_limit": str(MAX_INBOUND_CONNECTIONS),
    "envoy.resource_limits.listener.out.connection_limit": str(MAX_OUTBOUND_CONNECTIONS),
}
_HEAP = "envoy.resource_monitors.fixed_heap"
PROBED = "probed|"  # of chains and clusters for the kubelet's probes
METRICS = "metrics|"  # of the chain at which figures are read
# A flag of Envoy's, a handshake that failed, or one that took too long. Whoever is in clear where that is
# allowed has failed at nothing. The expression is the whole of it:
# nothing that a stranger sends is ever evaluated.
_FAILED = (
    "(response.flags != 0 || has(connection.transport_failure_reason) || has(connection.termination_details))"
    " && !(has(xds.filter_chain_name) && (xds.filter_chain_name.startsWith('"
    f"{PROBED}') || xds.filter_chain_name.startsWith('{METRICS}')))"
)


def closed(layout: Layout) -> dict[str, bytes]:
    """What Envoy starts with, and CLOSED for people; exactly the files of envoy/closed."""
    files = {BOOTSTRAP_FILE: bootstrap(layout)}
    return files | xds(CLOSED_VERSION, [blackhole_cluster()], closed_listeners())


def bootstrap(layout: Layout) -> bytes:
    """What Envoy is started with: an admin socket, the way to the daemon, limits, and an end for
    the thread that carries connections when it is stuck; the daemon watches the other one (host.envoy).
    """
    limit = {
        "name": "envoy.resource_monitors.global_downstream_max_connections",
        "typed_config": {
            "@type": CONNECTION_LIMIT_TYPE,
            "max_active_downstream_connections": str(MAX_ENVOY_CONNECTIONS),
        },
    }
    heap = {
        "name": _HEAP,
        "typed_config": {"@type": FIXED_HEAP_TYPE, "max_heap_size_bytes": str(ENVOY_HEAP)},
    }
    return document(
        {
            "node": {"id": NODE_ID, "cluster": "toposeal"},
            "static_resources": {"clusters": [_daemon(layout)]},
            "dynamic_resources": {
                "lds_config": discovered(),
                "cds_config": discovered(),
                "ads_config": {
                    "api_type": "GRPC",
                    "transport_api_version": "V3",
                    "grpc_services": [{"envoy_grpc": {"cluster_name": DISCOVERY}}],
                    "set_node_on_first_message_only": True,
                },
            },
            "watchdogs": {"worker_watchdog": {"kill_timeout": f"{ENVOY_STUCK / 1000:g}s"}},
            "layered_runtime": {"layers": [{"name": "limits", "static_layer": _LISTENER_LIMITS}]},
            "admin": {"address": {"pipe": {"path": layout.admin, "mode": ADMIN_MODE}}},
            "overload_manager": {
                "refresh_interval": f"{OVERLOAD_REFRESH / 1000:.3f}s",
                "resource_monitors": [limit, heap],
                "actions": [
                    _action("envoy.overload_actions.shrink_heap", HEAP_SHRINKS),
                    _action("envoy.overload_actions.reject_incoming_connections", HEAP_REFUSES),
                ],
            },
        }
    )


def closed_listeners() -> Sequence[Json]:
    """Outbound on loopback alone, where the pod's own redirect leads; inbound on every address.

    `freebind` lets the IPv6 half exist in a pod that has no IPv6 address. Without port reuse
    nobody can bind beside Envoy.
    """
    return [
        {
            "name": "out",
            "address": tcp_address("127.0.0.1", OUTBOUND_PORT),
            "additional_addresses": [{"address": tcp_address("::1", OUTBOUND_PORT)}],
            "filter_chains": [_sentinel()],
            "per_connection_buffer_limit_bytes": CONNECTION_BUFFER,
            "listener_filters": [_filter("envoy.filters.listener.original_dst", ORIGINAL_DST_TYPE)],
            "freebind": True,
            "traffic_direction": "OUTBOUND",
            "enable_reuse_port": False,
            "access_log": [_refusals()],
        },
        {
            "name": "in",
            "address": tcp_address("0.0.0.0", INBOUND_PORT),  # noqa: S104 - the redirect keeps addresses
            "additional_addresses": [{"address": tcp_address("::", INBOUND_PORT)}],
            "filter_chains": [_sentinel()],
            "per_connection_buffer_limit_bytes": CONNECTION_BUFFER,
            "listener_filters": [
                _filter("envoy.filters.listener.original_dst", ORIGINAL_DST_TYPE),
                _filter("envoy.filters.listener.tls_inspector", TLS_INSPECTOR_TYPE),
            ],
            "listener_filters_timeout": f"{TLS_INSPECTION_TIMEOUT // 1000}s",
            "freebind": True,
            "traffic_direction": "INBOUND",
            "enable_reuse_port": False,
            "access_log": [_refusals()],
        },
    ]


def blackhole_cluster() -> Json:
    """A destination without endpoints: whatever is sent there is closed."""
    return {
        "name": BLACKHOLE,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": BLACKHOLE},
    }


def _daemon(layout: Layout) -> Json:
    """gRPC on the daemon's socket, which nobody else can have bound or connect to."""
    endpoint = {"endpoint": {"address": {"pipe": {"path": layout.discovery}}}}
    options = {"@type": HTTP_OPTIONS_TYPE, "explicit_http_config": {"http2_protocol_options": {}}}
    return {
        "name": DISCOVERY,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": DISCOVERY, "endpoints": [{"lb_endpoints": [endpoint]}]},
        "typed_extension_protocol_options": {HTTP_OPTIONS_TYPE.rpartition("/")[2]: options},
    }


def _sentinel() -> Json:
    """A listener needs a chain; this one matches a port that nothing is redirected from."""
    return {
        "filter_chain_match": {"destination_port": 1},
        "filters": [
            {
                "name": "envoy.filters.network.tcp_proxy",
                "typed_config": {"@type": TCP_PROXY_TYPE, "stat_prefix": BLACKHOLE, "cluster": BLACKHOLE},
            }
        ],
        "name": "sentinel",
    }


def _refusals() -> Json:
    """Every connection that failed, and no other, as one line on standard output for the daemon."""
    condition = {
        "name": "envoy.access_loggers.extension_filters.cel",
        "typed_config": {"@type": ACCESS_FILTER_TYPE, "expression": _FAILED},
    }
    return {
        "name": "envoy.access_loggers.stdout",
        "filter": {"extension_filter": condition},
        "typed_config": {"@type": STDOUT_LOG_TYPE, "log_format": {"json_format": dict(FIELDS)}},
    }


def _action(name: str, above: float) -> Json:
    """What Envoy does while its heap is above this part of ENVOY_HEAP."""
    return {"name": name, "triggers": [{"name": _HEAP, "threshold": {"value": above}}]}


def _filter(name: str, kind: str) -> Json:
    return {"name": name, "typed_config": {"@type": kind}}
