"""What must hold for every port that speaks HTTP, said without the renderer: the whole of its manager, and of
the options of its clusters, but for the places where two of them may differ.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Json = dict[str, Any]

_E = "type.googleapis.com/envoy.extensions."
MANAGER = _E + "filters.network.http_connection_manager.v3.HttpConnectionManager"
_ROUTER = _E + "filters.http.router.v3.Router"
_EARLY = _E + "http.early_header_mutation.header_mutation.v3.HeaderMutation"
_CASE = _E + "http.header_formatters.preserve_case.v3.PreserveCaseFormatterConfig"
_PREVIOUS = _E + "retry.host.previous_hosts.v3.PreviousHostsPredicate"
_OPTIONS = _E + "upstreams.http.v3.HttpProtocolOptions"
_STDOUT = _E + "access_loggers.stream.v3.StdoutAccessLog"
TYPES = {MANAGER, _ROUTER, _EARLY, _CASE, _PREVIOUS, _OPTIONS, _STDOUT}

# What may be said of a request, where the topology lets it be logged: no header but these two pseudo-headers.
SAYABLE = {
    "%FILTER_CHAIN_NAME%",
    "%DURATION%",
    "%RESPONSE_FLAGS%",
    "%REQ(:METHOD):16%",
    "%PATH(NQ:PATH):160%",
    "%PROTOCOL%",
    "%BYTES_RECEIVED%",
    "%BYTES_SENT%",
    "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS%",
    "%RESPONSE_CODE%",
    "%RESPONSE_DURATION%",
}
_KEPT_CASE = {
    "stateful_formatter": {
        "name": "envoy.http.stateful_header_formatters.preserve_case",
        "typed_config": {"@type": _CASE},
    }
}
_HTTP2 = {
    "max_concurrent_streams": 100,
    "initial_stream_window_size": 1 << 16,
    "initial_connection_window_size": 1 << 20,
}
_COMMON = {
    "@type": MANAGER,
    "http_filters": [
        {
            "name": "envoy.filters.http.router",
            "typed_config": {"@type": _ROUTER, "suppress_envoy_headers": True},
        }
    ],
    "http2_protocol_options": _HTTP2,
    "server_header_transformation": "PASS_THROUGH",
    "max_request_headers_kb": 60,
    "stream_idle_timeout": "0s",
    "delayed_close_timeout": "0s",
    "early_header_mutation_extensions": [
        {
            "name": "envoy.http.early_header_mutation.header_mutation",
            "typed_config": {
                "@type": _EARLY,
                "mutations": [
                    {"remove_on_match": {"key_matcher": {"prefix": "x-envoy-"}}},
                    {
                        "remove_on_match": {
                            "key_matcher": {"safe_regex": {"regex": "x[-_]forwarded[-_]client[-_]cert"}}
                        }
                    },
                ],
            },
        }
    ],
    "generate_request_id": False,
    "proxy_100_continue": True,
    "upgrade_configs": [{"upgrade_type": "websocket"}],
}
_SERVES = {
    **_COMMON,
    "stat_prefix": "serves",
    "common_http_protocol_options": {
        "idle_timeout": "5s",
        "max_connection_duration": "5s",
        "max_headers_count": 100,
    },
    "http1_safe_max_connection_duration": True,
    "request_headers_timeout": "5s",
    "drain_timeout": "1s",
}
_ELSEWHERE = {
    "retry_on": "connect-failure",
    "num_retries": 2,
    "retry_host_predicate": [
        {
            "name": "envoy.retry_host_predicates.previous_hosts",
            "typed_config": {"@type": _PREVIOUS},
        }
    ],
    "host_selection_retry_max_attempts": "3",
}


def manager_violations(listener: str, name: str, manager: Json, caller: str) -> Iterator[str]:
    """Of the manager of the chain `name`; `caller` is the SPIFFE ID of whoever can get there, or empty."""
    rest = {key: value for key, value in manager.items() if key not in ("route_config", "access_log")}
    if rest != _expected(listener, name):
        yield f"{name}: {rest}"
    routes = manager["route_config"]
    (host,) = routes["virtual_hosts"]
    if routes["request_headers_to_remove"] != ["x-envoy-internal"] or host["domains"] != ["*"]:
        yield f"{name}: {routes}"
    (route,) = host["routes"]
    told = [_identity(caller)] if listener == "in" and caller else None
    if not set(route) <= {"match", "route", "request_headers_to_add"} or route["match"] != {"prefix": ""}:
        yield f"{name}: {route}"
    if route.get("request_headers_to_add") != told:
        yield f"{name}: {route}"
    yield from _action(listener, name, route["route"], caller)
    yield from _logs(listener, name, manager["access_log"], caller)


def _expected(listener: str, name: str) -> Json:
    http1 = {"accept_http_10": True, "header_key_format": _KEPT_CASE}
    if listener == "in":
        return {**_SERVES, "http_protocol_options": http1}
    role = name.split("|")[1]
    return {
        **_COMMON,
        "stat_prefix": "calls",
        "common_http_protocol_options": {"idle_timeout": "0s", "max_headers_count": 100},
        "http_protocol_options": {**http1, "default_host_for_http_10": role},
    }


def _action(listener: str, name: str, action: Json, own: str) -> Iterator[str]:
    """No retry of what may have been sent, no timeout, and no identity but the pod's own for itself."""
    if action["timeout"] != "0s" or action.get("retry_policy") != (_ELSEWHERE if listener == "out" else None):
        yield f"{name}: {action}"
    if not set(action) <= {"timeout", "retry_policy", "cluster", "weighted_clusters"}:
        yield f"{name}: {sorted(action)}"
    for part in action.get("weighted_clusters", {}).get("clusters", []):
        added = part.get("request_headers_to_add", [])
        if listener == "in" or part["name"].startswith("app|") != bool(added):
            yield f"{name}: {part}"
        if added not in ([], [_identity(own)]):
            yield f"{name}: {added}"


def _identity(caller: str) -> Json:
    said = {"key": "x-forwarded-client-cert", "value": f"URI={caller}"}
    return {"header": said, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}


def _logs(listener: str, name: str, logs: list[Json], caller: str) -> Iterator[str]:
    """Failures as the listener tells refusals; every request only at the called end."""
    failures, *requests = logs
    if failures["filter"] != {"response_flag_filter": {"flags": ["UF", "UH", "UO"]}}:
        yield f"{name}: a log of more than failures"
    if len(requests) > (listener == "in"):
        yield f"{name}: {len(requests)} logs of requests"
    for log in requests:
        if set(log["typed_config"]["log_format"]["json_format"].values()) != {*SAYABLE, caller}:
            yield f"{name}: a log that says too much"


def http_violations(cluster: Json) -> Iterator[str]:
    """Of a cluster that takes requests; nothing where it takes bytes."""
    if "typed_extension_protocol_options" not in cluster:
        return
    name = cluster["name"]
    idle = "4s" if name.startswith("out|") else "1s"
    expected = {
        "@type": _OPTIONS,
        "common_http_protocol_options": {
            "idle_timeout": idle,
            "max_headers_count": 100,
            "max_response_headers_kb": 60,
        },
        "use_downstream_protocol_config": {
            "http_protocol_options": {"header_key_format": _KEPT_CASE},
            "http2_protocol_options": _HTTP2,
        },
    }
    if cluster["typed_extension_protocol_options"] != {_OPTIONS.rpartition("/")[2]: expected}:
        yield f"{name}: {cluster['typed_extension_protocol_options']}"
    (bound,) = cluster["circuit_breakers"]["thresholds"]
    if not bound["max_requests"] == bound["max_connections"] == bound["max_pending_requests"]:
        yield f"{name}: requests without a share"
    if not name.startswith(("out|", "app|")):
        yield f"{name}: requests to elsewhere"


def mixed(listeners: list[Json], clusters: Mapping[str, Json]) -> Iterator[str]:
    """A cluster takes requests of managers alone, and bytes of all else."""
    for listener in listeners:
        for chain in listener["filter_chains"]:
            proxy = chain["filters"][0]["typed_config"]
            for name in targets(proxy):
                speaks = "typed_extension_protocol_options" in clusters[name]
                if speaks != (proxy["@type"] == MANAGER and not chain["name"].startswith("metrics|")):
                    yield f"{chain['name']}: {name} speaks otherwise"


def targets(value: Any) -> set[str]:
    """The clusters that a filter leads to."""
    found: set[str] = set()
    if isinstance(value, list):
        found = found.union(*map(targets, value))
    elif isinstance(value, dict):
        found = found.union(*(targets(inner) for key, inner in value.items() if key != "access_log"))
        found |= {value["cluster"]} if isinstance(value.get("cluster"), str) else set()
        found |= {part["name"] for part in value.get("clusters", [])}
    return found
