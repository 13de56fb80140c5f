"""What must hold for every Envoy configuration that we ever write, said without the renderer (D6).

`violations` reads finished files. It knows lists of what is allowed, not of what is dangerous: a new
field or extension fails here until somebody has thought about it.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from typing import Any

from support.envoy import resources
from support.envoy_header_oracle import TYPES as HEADER_TYPES
from support.envoy_header_oracle import chain_violations, header_violations
from support.envoy_requests_oracle import MANAGER, http_violations, manager_violations, mixed, targets
from support.envoy_requests_oracle import TYPES as REQUEST_TYPES
from toposeal.limits import MAX_INBOUND_CONNECTIONS, MEMBER_CONNECTIONS, MIN_MEMBER_CONNECTIONS
from toposeal.topology.egress import overlap

Json = dict[str, Any]

_CROWD = re.compile(r"app\|\d+\|share-([0-9]|[1-5][0-9]|6[0-3])", re.ASCII)

_P = "type.googleapis.com/envoy."
SPIFFE = _P + "extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig"
DOWNSTREAM = _P + "extensions.transport_sockets.tls.v3.DownstreamTlsContext"
UPSTREAM = _P + "extensions.transport_sockets.tls.v3.UpstreamTlsContext"
TYPES = {
    SPIFFE,
    DOWNSTREAM,
    UPSTREAM,
    _P + "extensions.filters.network.tcp_proxy.v3.TcpProxy",
    _P + "extensions.filters.listener.original_dst.v3.OriginalDst",
    _P + "extensions.filters.listener.tls_inspector.v3.TlsInspector",
    _P + "extensions.filters.http.health_check.v3.HealthCheck",
    _P + "extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
    _P + "extensions.access_loggers.filters.cel.v3.ExpressionFilter",
    *REQUEST_TYPES,
    *HEADER_TYPES,
}
# What may be said of a connection; nothing of what it carries.
SAYABLE = {
    "%FILTER_CHAIN_NAME%",
    "%UPSTREAM_CLUSTER%",
    "%DOWNSTREAM_LOCAL_ADDRESS%",
    "%DOWNSTREAM_TRANSPORT_FAILURE_REASON%",
    "%RESPONSE_FLAGS%",
    "%REQUESTED_SERVER_NAME%",
    "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS%",
    "%CONNECTION_TERMINATION_DETAILS%",
    "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
    "%UPSTREAM_HOST%",
}
FORBIDDEN = [ipaddress.ip_network(n) for n in ("127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3", "::/127")]
MAX_BUFFER = 1 << 16
CLUSTER_FIELDS = {
    "health_checks",
    "lb_policy",
    "name",
    "type",
    "connect_timeout",
    "load_assignment",
    "circuit_breakers",
    "transport_socket",
    "transport_socket_matches",
    "upstream_bind_config",
    "per_connection_buffer_limit_bytes",
    "upstream_connection_options",
    "typed_extension_protocol_options",
}
TRUST_FIELDS = {"trusted_ca", "match_typed_subject_alt_names", "suppress_client_ca_list", "max_verify_depth"}
NOBODY = {
    "custom_validator_config": {
        "name": "envoy.tls.cert_validator.spiffe",
        "typed_config": {"@type": SPIFFE},  # no trust domain
    },
    "suppress_client_ca_list": True,
}
TLS_FIELDS = {"tls_params", "tls_certificate_sds_secret_configs", "validation_context", "alpn_protocols"}
AFTER_HANDSHAKE = "ON_DOWNSTREAM_TLS_HANDSHAKE"
NO_ROUTE = [{"match": {"prefix": "/"}, "direct_response": {"status": 404}}]
TO_DAEMON = [
    {
        "match": {
            "path": path,
            "headers": [
                {"name": ":method", "string_match": {"exact": "GET"}},
                {"name": ":path", "string_match": {"exact": path}},
            ],
        },
        "route": {"cluster": "metrics", "timeout": "5s"},
    }
    for path in ("/metrics", "/healthz")
]
ALWAYS = {"default_value": {"numerator": 100}}
HTTP_FIELDS = {
    "@type",
    "codec_type",
    "stat_prefix",
    "route_config",
    "http_filters",
    "common_http_protocol_options",
    "max_request_headers_kb",
    "stream_idle_timeout",
    "request_timeout",
    "request_headers_timeout",
    "delayed_close_timeout",
    "generate_request_id",
}
TLS12 = {"tls_minimum_protocol_version": "TLSv1_2", "tls_maximum_protocol_version": "TLSv1_3"}
TLS13 = {
    "tls_minimum_protocol_version": "TLSv1_3",
    "tls_maximum_protocol_version": "TLSv1_3",
    "signature_algorithms": ["ecdsa_secp256r1_sha256"],
}


def violations(files: Mapping[str, bytes]) -> list[str]:
    """Every rule that `files` (LDS and CDS) break; what is missing altogether breaks one too."""
    clusters, listeners = resources(files["cds.json"]), resources(files["lds.json"])
    try:
        return [
            *_types(clusters + listeners),
            *(v for cluster in clusters for v in _cluster(cluster)),
            *_listeners(listeners, {cluster["name"]: cluster for cluster in clusters}),
            *_shares(listeners[1], {cluster["name"]: cluster for cluster in clusters}),
            *mixed(listeners, {cluster["name"]: cluster for cluster in clusters}),
        ]
    except (KeyError, TypeError, ValueError) as error:
        return [f"missing {error}"]


def walk(value: Any) -> Iterator[Json]:
    """Every object in `value`."""
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from walk(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from walk(inner)


def _types(values: list[Json]) -> Iterator[str]:
    for item in walk(values):
        if "@type" in item and item["@type"] not in TYPES:
            yield f"extension {item['@type']}"
        if "typed_config" in item and "@type" not in item["typed_config"]:
            yield "an extension without a type"
        if "validation_context" in item and not _is_sound(item["validation_context"]):
            yield f"validation context {sorted(item['validation_context'])}"
        if item.get("@type") in (DOWNSTREAM, UPSTREAM):
            yield from _tls(item)


def _is_sound(context: Json) -> bool:
    """Nobody; or one CA, whose own leaves alone count, with the exact URI of the member it belongs to; or
    one host outside, by CAs that the topology gives.
    """
    if context == NOBODY:
        return True
    if context["match_typed_subject_alt_names"][0]["san_type"] == "DNS":
        return _is_host(context)
    (matcher,) = context["match_typed_subject_alt_names"]
    uri = matcher["matcher"]["exact"]
    return (
        set(context) == TRUST_FIELDS
        and context["max_verify_depth"] == 1
        and context["trusted_ca"]["inline_string"].count("-----BEGIN CERTIFICATE-----") == 1
        and matcher == {"san_type": "URI", "matcher": {"exact": uri}}
        and uri.startswith("spiffe://")
    )


def _is_host(context: Json) -> bool:
    (matcher,) = context["match_typed_subject_alt_names"]
    host = matcher["matcher"]["exact"]
    return (
        set(context) == {"trusted_ca", "match_typed_subject_alt_names"}
        and matcher == {"san_type": "DNS", "matcher": {"exact": host}}
        and "." in host
        and "BEGIN CERTIFICATE" in context["trusted_ca"]["inline_string"]
    )


def trusted(value: Any) -> list[str]:
    """The trust domains whose members `value` lets in."""
    return [uri.removeprefix("spiffe://").partition("/")[0] for uri in _uris(value)]


def _uris(value: Any) -> list[str]:
    return [
        matcher["matcher"]["exact"]
        for item in walk(value)
        for matcher in item.get("match_typed_subject_alt_names", [])
        if matcher["san_type"] == "URI"
    ]


def _tls(context: Json) -> Iterator[str]:
    common = context["common_tls_context"]
    if _to_host(common):
        if context["@type"] != UPSTREAM or common["tls_params"] != TLS12 or len(common) != 2:
            yield f"TLS to a host outside: {sorted(common)}"
        name = common["validation_context"]["match_typed_subject_alt_names"][0]["matcher"]["exact"]
        if context.get("max_session_keys") != 0 or context.get("sni") != name:
            yield "resumption to a host outside, or another SNI"
        return
    if not set(common) <= TLS_FIELDS or common["tls_params"] != TLS13:
        yield f"TLS parameters {common.get('tls_params')}, {sorted(common)}"
    secrets = [secret["name"] for secret in common.get("tls_certificate_sds_secret_configs", [])]
    if context["@type"] == UPSTREAM:
        if context.get("max_session_keys") != 0 or not context.get("sni"):
            yield "upstream resumption or no SNI"
        if secrets != ([] if common["validation_context"] == NOBODY else ["id"]):
            yield f"upstream secrets {secrets}"
        return
    if not (
        context.get("disable_stateless_session_resumption")
        and context.get("disable_stateful_session_resumption")
    ):
        yield "downstream resumption"
    mutual = bool(context.get("require_client_certificate")) and "validation_context" in common
    if not mutual and secrets != ["ingress"]:
        yield "a mesh port without client certificates"
    if mutual and secrets != ["id"]:
        yield f"a mesh port with secrets {secrets}"


def _to_host(common: Json) -> bool:
    matchers = common.get("validation_context", {}).get("match_typed_subject_alt_names", [])
    return [matcher["san_type"] for matcher in matchers] == ["DNS"]


def _cluster(cluster: Json) -> Iterator[str]:
    name = cluster["name"]
    if name != "blackhole" and cluster["per_connection_buffer_limit_bytes"] > MAX_BUFFER:
        yield f"{name}: a buffer that readers can make large"
    if not set(cluster) <= CLUSTER_FIELDS:
        yield f"{name}: fields {sorted(set(cluster) - CLUSTER_FIELDS)}"
    yield from http_violations(cluster)
    yield from header_violations(cluster)
    if name == "egress|ranges":
        if (cluster["type"], cluster["lb_policy"]) != ("ORIGINAL_DST", "CLUSTER_PROVIDED"):
            yield f"{name}: {cluster['type']}"
        if "load_assignment" in cluster:
            yield f"{name}: endpoints"
        return
    if cluster["type"] != "STATIC" or "lb_policy" in cluster:
        yield f"{name}: {cluster['type']}"
    endpoints = [e for e in walk(cluster["load_assignment"]) if "endpoint" in e]
    addresses = [address for e in endpoints for address in addresses_of(e)]
    if name.startswith("out|") or name == "probe-call":
        yield from _role_cluster(cluster, endpoints)
    elif name.startswith(("app|", "probed|")):
        if ("health_checks" in cluster) != name.startswith("probed|"):
            yield f"{name}: asked by Envoy"
        own = [address["socket_address"]["address"] for address in addresses]
        if own != [cluster["upstream_bind_config"]["source_address"]["address"]]:
            yield f"{name}: {own} in clear, not bound to the pod's own address"
    elif name.startswith("egress|"):
        for address in (ipaddress.ip_address(a["socket_address"]["address"]) for a in addresses):
            if any(address in network for network in FORBIDDEN):
                yield f"{name}: {address}"
    elif any("pipe" not in address for address in addresses):
        yield f"{name}: {addresses} in clear"
    elif any("admin" in address["pipe"]["path"] for address in addresses):
        yield f"{name}: Envoy's admin"


def addresses_of(endpoint: Json) -> list[Json]:
    """Of an LbEndpoint, the one that is tried first first."""
    more = endpoint["endpoint"].get("additional_addresses", [])
    return [endpoint["endpoint"]["address"], *(item["address"] for item in more)]


def _role_cluster(cluster: Json, endpoints: list[Json]) -> Iterator[str]:
    fallback = cluster.get("transport_socket", {}).get("typed_config", {})
    contexts = [item["validation_context"] for item in walk(fallback) if "validation_context" in item]
    if fallback.get("@type") != UPSTREAM or contexts != [NOBODY]:
        yield f"{cluster['name']}: a fallback that trusts somebody, or none"
    matches = {m["match"]["member"]: m["transport_socket"] for m in cluster["transport_socket_matches"]}
    for member, socket in matches.items():
        if trusted(socket) != [member]:
            yield f"{cluster['name']}: {member} trusts {trusted(socket)}"
    for endpoint in endpoints:
        label = endpoint["metadata"]["filter_metadata"]["envoy.transport_socket_match"]["member"]
        if label not in matches:
            yield f"{cluster['name']}: an endpoint of nobody"


def _listeners(listeners: list[Json], clusters: Mapping[str, Json]) -> Iterator[str]:
    if [listener["name"] for listener in listeners] != ["out", "in"]:
        yield "not exactly two listeners"
    for listener in listeners:
        chains = listener["filter_chains"]
        if len({chain["name"] for chain in chains}) != len(chains):
            yield "a chain name twice"
        if listener["per_connection_buffer_limit_bytes"] > MAX_BUFFER:
            yield "a buffer that readers can make large"
        if "default_filter_chain" in listener:
            yield "a default chain"
        (log,) = listener["access_log"]
        if not set(log["typed_config"]["log_format"]["json_format"].values()) <= SAYABLE:
            yield "a log that says too much"
        if "filter" not in log:
            yield "a log of every connection"
        for chain in chains:
            yield from _chain(listener["name"], chain, clusters)


def _chain(listener: str, chain: Json, clusters: Mapping[str, Json]) -> Iterator[str]:
    match, name = chain.get("filter_chain_match", {}), chain["name"]
    if name.startswith(("probed|", "metrics|")):
        yield from _http(listener, name, match, chain)
        return
    if "destination_port" not in match:
        yield f"{name}: any port"
    if name != "sentinel" and ("transport_socket" in chain) != (listener == "in"):
        yield f"{name}: no TLS"
    if listener == "out" and name != "sentinel":
        yield from _outbound(name, match, chain)
    proxy = chain["filters"][0]["typed_config"]
    caller = "".join(_uris(chain) if listener == "in" else _uris(clusters["probe-call"]))
    yield from chain_violations(listener, chain, clusters, caller)
    if proxy["@type"] == MANAGER:
        yield from manager_violations(listener, name, proxy, caller)
    elif listener == "in" and name != "sentinel" and proxy.get("upstream_connect_mode") != AFTER_HANDSHAKE:
        yield f"{name}: connects before the handshake"
    if trusted(chain) != match.get("server_names", []):
        yield f"{name}: SNI {match.get('server_names')} trusts {trusted(chain)}"
    if len(chain["filters"]) != 1 or not targets(proxy) <= set(clusters):
        yield f"{name}: leads to {targets(proxy)}"


def _shares(inbound: Json, clusters: Mapping[str, Json]) -> Iterator[str]:
    """Whoever comes in has a share of its own, or a crowd 64; the document is one for two kinds of port."""
    shares: dict[str, int] = {}
    for chain in inbound["filter_chains"]:
        if chain["name"].startswith(("sentinel", "probed|", "metrics|")):
            continue
        (name,) = targets(chain["filters"])
        if name in shares and name != "attestation" and not _CROWD.fullmatch(name):
            yield f"{chain['name']}: shares {name}"
        (bound,) = clusters[name]["circuit_breakers"]["thresholds"]
        shares[name] = bound["max_connections"]
    members = sorted(count for name, count in shares.items() if "|m-" in name or _CROWD.fullmatch(name))
    if sum(members) > MEMBER_CONNECTIONS and members[-1] > MIN_MEMBER_CONNECTIONS:
        yield f"members: {sum(members)} connections"
    if sum(shares.values()) - sum(members) > MAX_INBOUND_CONNECTIONS - MEMBER_CONNECTIONS:
        yield f"others: {sum(shares.values()) - sum(members)} connections"


def _outbound(name: str, match: Json, chain: Json) -> Iterator[str]:
    """One address, but for a range that the topology names, which leads to where it was dialled; and a role's
    others, which it names too.
    """
    network, *others = (
        ipaddress.ip_network(f"{place['address_prefix']}/{place['prefix_len']}")
        for place in match["prefix_ranges"]
    )
    if others and not name.startswith("out|"):
        yield f"{name}: {others} too"
    for other in others:
        if other.num_addresses != 1 or any(overlap(other, forbidden) for forbidden in FORBIDDEN):
            yield f"{name}: {other}"
    if targets(chain["filters"]) == {"egress|ranges"}:
        if not name.startswith("egress|") or any(overlap(network, forbidden) for forbidden in FORBIDDEN):
            yield f"{name}: everything in {network}"
    elif network.num_addresses != 1:
        yield f"{name}: more than one address"


def _http(listener: str, name: str, match: Json, chain: Json) -> Iterator[str]:
    """In clear, and so without any way to a cluster but one request's to the daemon."""
    if listener != "in" or set(match) != {"destination_port", "transport_protocol"}:
        yield f"{name}: {match}"
    if match["transport_protocol"] != "raw_buffer" or "transport_socket" in chain:
        yield f"{name}: not in clear"
    (manager,) = [f["typed_config"] for f in chain["filters"]]
    routes = [v["routes"] for v in manager["route_config"]["virtual_hosts"]]
    *filters, router = manager["http_filters"]
    if not set(manager) <= HTTP_FIELDS or router["name"] != "envoy.filters.http.router":
        yield f"{name}: {sorted(manager)}"
    if name.startswith("metrics|"):
        yield from _metrics(name, filters, routes)
    else:
        yield from _probed(name, filters, routes)


def _metrics(name: str, filters: list[Json], routes: list[list[Json]]) -> Iterator[str]:
    """So many requests a second, whatever they are, and two of them to one socket."""
    if routes != [[*TO_DAEMON, *NO_ROUTE]]:
        yield f"{name}: another route"
    (limit,) = (each["typed_config"] for each in filters)
    if [limit.get("filter_enabled"), limit.get("filter_enforced")] != [ALWAYS, ALWAYS]:
        yield f"{name}: a limit for some"
    bucket = limit["token_bucket"]
    if bucket["fill_interval"] != "1s" or not bucket["max_tokens"] == bucket["tokens_per_fill"] <= 5:
        yield f"{name}: {bucket}"


def _probed(name: str, filters: list[Json], routes: list[list[Json]]) -> Iterator[str]:
    """Answers of Envoy's own, and 404."""
    if routes != [NO_ROUTE]:
        yield f"{name}: a route"
    for answer in (a["typed_config"] for a in filters):
        method, path = answer["headers"]
        if answer.get("pass_through_mode", False) is not False or method["string_match"] != {"exact": "GET"}:
            yield f"{name}: more than a GET"
        if (method["name"], path["name"], set(path["string_match"])) != (":method", ":path", {"exact"}):
            yield f"{name}: another request"
