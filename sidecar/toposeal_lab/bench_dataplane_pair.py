"""The baseline: two Envoys as one writes them by hand, mutual TLS with one shared CA in tcp_proxy mode.

Nothing of ours: a fixed file each, no redirect, no listener filter, no log, Envoy's defaults; the same
number of worker threads.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from toposeal.host.envoy import find_envoy
from toposeal_lab.bench_dataplane_mesh import CLIENT, PORT, SERVER, Identity
from toposeal_lab.pods import Pod

CALL_PORT = 8081  # where the client's Envoy listens for its application
_TLS_PORT = 8443
_TYPE = "type.googleapis.com/envoy.extensions."
_OPTIONS = ("--disable-hot-restart", "--log-level", "error")

Json = dict[str, Any]


def start_pair(client: Pod, server: Pod, directory: Path, workers: int) -> None:
    """Start both; they end with their pods."""
    shared = Identity.mint(SERVER, ())
    outbound = _listener("127.0.0.1", CALL_PORT, None)
    upstream = {"sni": SERVER, **_credentials(shared, CLIENT)}
    _start(client, directory / "client.json", workers, outbound, (server.ipv4, _TLS_PORT), upstream)
    downstream = {"require_client_certificate": True, **_credentials(shared, SERVER)}
    inbound = _listener("0.0.0.0", _TLS_PORT, downstream)  # noqa: S104 - a pod of this benchmark's own
    _start(server, directory / "server.json", workers, inbound, ("127.0.0.1", PORT), None)


def _start(
    pod: Pod, file: Path, workers: int, listener: Json, target: tuple[str, int], tls: Json | None
) -> None:
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
    file.write_text(json.dumps({"static_resources": {"listeners": [listener], "clusters": [cluster]}}))
    pod.spawn([find_envoy(None), "-c", str(file), "--concurrency", str(workers), *_OPTIONS])


def _listener(address: str, port: int, tls: Json | None) -> Json:
    proxy = {
        "@type": f"{_TYPE}filters.network.tcp_proxy.v3.TcpProxy",
        "stat_prefix": "target",
        "cluster": "target",
    }
    chain: Json = {"filters": [{"name": "envoy.filters.network.tcp_proxy", "typed_config": proxy}]}
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
