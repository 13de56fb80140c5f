"""The baseline: two Envoys as one writes them by hand, mutual TLS with one shared CA in tcp_proxy mode.

Nothing of ours: a fixed file each, no redirect, no listener filter, no log, Envoy's defaults; the same
number of worker threads. And the same twice more: behind a bare redirect, which is what any mesh pays whose
applications call unchanged; and with calls as streams of one connection, by HTTP/2 CONNECT, which
docs/adr/0022 weighs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toposeal.host.envoy import find_envoy
from toposeal_lab.apps import APP_UID
from toposeal_lab.bench_dataplane_mesh import CLIENT, PORT, SERVER, Identity
from toposeal_lab.pods import Pod

_TYPE = "type.googleapis.com/envoy.extensions."
_AUTHORITY = "target:1"
_UPSTREAM = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_STREAMS = {  # what nobody has read is held by the window of its own stream alone
    "allow_connect": True,
    "initial_stream_window_size": 1 << 20,
    "initial_connection_window_size": (1 << 31) - 1,
}
_EXPLICIT = {"http2_protocol_options": _STREAMS}
_HTTP2 = {
    "typed_extension_protocol_options": {
        _UPSTREAM: {"@type": f"type.googleapis.com/{_UPSTREAM}", "explicit_http_config": _EXPLICIT}
    }
}
_OPTIONS = ("--disable-hot-restart", "--log-level", "error")

Json = dict[str, Any]


@dataclass(frozen=True)
class Pair:
    """Where the two listen, whether the kernel leads connections there, and whether calls share one."""

    call_port: int  # the client's Envoy, for its application
    tls_port: int
    redirected: bool = False
    tunnel: bool = False


BY_CONNECTION, BY_TUNNEL = Pair(8081, 8443), Pair(8082, 8444, tunnel=True)
BY_REDIRECT = Pair(8083, 8445, redirected=True)
_REDIRECTS = {  # of connections to the application's port alone, and nothing else: no wall
    "output": "meta skuid {uid} tcp dport {port} redirect to :{call_port}",
    "prerouting": "tcp dport {port} redirect to :{tls_port}",
}


def start_pair(pair: Pair, client: Pod, server: Pod, directory: Path, workers: int) -> None:
    """Start both; they end with their pods."""
    shared = Identity.mint(SERVER, ())
    proxy = _proxy() | ({"tunneling_config": {"hostname": _AUTHORITY}} if pair.tunnel else {})
    outbound = _listener("127.0.0.1", pair.call_port, None, "tcp_proxy", proxy)
    upstream = {"sni": SERVER, **_credentials(shared, CLIENT)}
    called = (server.ipv4, PORT if pair.redirected else pair.tls_port)
    cluster = _cluster(called, upstream) | (_HTTP2 if pair.tunnel else {})
    _start(client, directory / f"client-{pair.tls_port}.json", workers, outbound, cluster)
    downstream = {"require_client_certificate": True, **_credentials(shared, SERVER)}
    end = ("http_connection_manager", _manager()) if pair.tunnel else ("tcp_proxy", _proxy())
    inbound = _listener("0.0.0.0", pair.tls_port, downstream, *end)  # noqa: S104 - a pod of our own
    cluster = _cluster(("127.0.0.1", PORT), None)
    _start(server, directory / f"server-{pair.tls_port}.json", workers, inbound, cluster)
    if pair.redirected:
        _redirect(pair, client, "output")
        _redirect(pair, server, "prerouting")


def _redirect(pair: Pair, pod: Pod, hook: str) -> None:
    rule = _REDIRECTS[hook].format(uid=APP_UID, port=PORT, call_port=pair.call_port, tls_port=pair.tls_port)
    chain = f"ip by_hand {hook}"
    table = f"add table ip by_hand; add chain {chain} {{ type nat hook {hook} priority -110; }}"
    pod.run(["nft", f"{table}; add rule {chain} {rule}"])


def _start(pod: Pod, file: Path, workers: int, listener: Json, cluster: Json) -> None:
    file.write_text(json.dumps({"static_resources": {"listeners": [listener], "clusters": [cluster]}}))
    pod.spawn([find_envoy(None), "-c", str(file), "--concurrency", str(workers), *_OPTIONS])


def _cluster(target: tuple[str, int], tls: Json | None) -> Json:
    cluster: Json = {
        "name": "target",
        "type": "STATIC",
        "load_assignment": {
            "cluster_name": "target",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(*target)}}]}],
        },
    }
    if tls is not None:
        cluster["transport_socket"] = _socket("UpstreamTlsContext", tls)
    return cluster


def _proxy() -> Json:
    return {
        "@type": f"{_TYPE}filters.network.tcp_proxy.v3.TcpProxy",
        "stat_prefix": "target",
        "cluster": "target",
    }


def _manager() -> Json:
    """The end of the tunnel: a stream for the one authority is a connection to the application."""
    connect = {"upgrade_type": "CONNECT", "connect_config": {}}
    route = {
        "match": {"connect_matcher": {}},
        "route": {"cluster": "target", "timeout": "0s", "upgrade_configs": [connect]},
    }
    host = {"name": "target", "domains": [_AUTHORITY], "routes": [route]}
    router = {"@type": f"{_TYPE}filters.http.router.v3.Router"}
    return {
        "@type": f"{_TYPE}filters.network.http_connection_manager.v3.HttpConnectionManager",
        "codec_type": "HTTP2",
        "stat_prefix": "target",
        "stream_idle_timeout": "0s",
        "http2_protocol_options": _STREAMS,
        "upgrade_configs": [{"upgrade_type": "CONNECT"}],
        "route_config": {"virtual_hosts": [host]},
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": router}],
    }


def _listener(address: str, port: int, tls: Json | None, kind: str, end: Json) -> Json:
    chain: Json = {"filters": [{"name": f"envoy.filters.network.{kind}", "typed_config": end}]}
    if tls is not None:
        chain["transport_socket"] = _socket("DownstreamTlsContext", tls)
    return {"name": "calls", "address": _address(address, port), "filter_chains": [chain]}


def _credentials(shared: Identity, role: str) -> Json:
    certificate, key = shared.leaf(role)
    trust = {"trusted_ca": {"inline_string": shared.member.ca_pem}}
    own = {"certificate_chain": {"inline_string": certificate}, "private_key": {"inline_string": key}}
    return {"common_tls_context": {"tls_certificates": [own], "validation_context": trust}}


def _socket(kind: str, context: Mapping[str, Any]) -> Json:
    config = {"@type": f"{_TYPE}transport_sockets.tls.v3.{kind}", **context}
    return {"name": "envoy.transport_sockets.tls", "typed_config": config}


def _address(address: str, port: int) -> Json:
    return {"socket_address": {"address": address, "port_value": port}}
