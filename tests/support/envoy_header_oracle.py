"""What must hold for every way to an application that is told who calls by a PROXY header, said without the
renderer: the header's socket is one constant, and each chain says its own caller and nobody else.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from typing import Any

from support.envoy_requests_oracle import targets

Json = dict[str, Any]

_E = "type.googleapis.com/envoy.extensions.transport_sockets."
_HEADER = _E + "proxy_protocol.v3.ProxyProtocolUpstreamTransport"
_CLEAR = _E + "raw_buffer.v3.RawBuffer"
TYPES = {_HEADER, _CLEAR}
IDENTITY = 0xE0
SOCKET = {
    "name": "envoy.transport_sockets.upstream_proxy_protocol",
    "typed_config": {
        "@type": _HEADER,
        "config": {"version": "V2", "pass_through_tlvs": {"match_type": "INCLUDE", "tlv_type": [IDENTITY]}},
        "transport_socket": {
            "name": "envoy.transport_sockets.raw_buffer",
            "typed_config": {"@type": _CLEAR},
        },
    },
}


def header_violations(cluster: Json) -> Iterator[str]:
    """The application alone gets a header, and the application gets no other socket."""
    socket, name = cluster.get("transport_socket"), cluster["name"]
    if name.startswith(("app|", "probed|")) and socket not in ([None, SOCKET], [None])[name[0] == "p"]:
        yield f"{name}: {socket}"
    if not name.startswith("app|") and _HEADER in str(cluster):
        yield f"{name}: a header for somebody else"
    if socket and "typed_extension_protocol_options" in cluster and name.startswith("app|"):
        yield f"{name}: a header before requests"


def said(chain: Json) -> list[tuple[int, str]]:
    """What the chain has its header say: type and text."""
    proxy = chain["filters"][0]["typed_config"]
    values = proxy.get("proxy_protocol_tlvs", [])
    return [(value["type"], base64.b64decode(value["value"]).decode()) for value in values]


def chain_violations(listener: str, chain: Json, clusters: Mapping[str, Json], caller: str) -> Iterator[str]:
    """`caller` is the SPIFFE ID of whoever can get there, or empty. What members send is said to be theirs,
    what the pod calls of itself its own, and what comes from outside nobody's.
    """
    name, proxy = chain["name"], chain["filters"][0]["typed_config"]
    begins = any("transport_socket" in clusters[n] for n in targets(proxy) if n.startswith("app|"))
    if said(chain) != ([(IDENTITY, caller)] if begins and caller else []):
        yield f"{name}: {said(chain)}"
    if "proxy_protocol_tlv_merge_policy" in proxy:
        yield f"{name}: what somebody else said too"
    if begins and not name.startswith(("in|", "ingress|") if listener == "in" else "out|"):
        yield f"{name}: leads to what begins with a header"
