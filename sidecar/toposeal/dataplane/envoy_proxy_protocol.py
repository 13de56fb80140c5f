"""The PROXY header, version 2, with which the application of a pod is told who calls. No IO.

Our Envoy alone writes it, and nothing of ours ever reads one: what a caller sends as a header is bytes that
come after ours. docs/adr/0033 says why.
"""

from __future__ import annotations

from envoy_data_plane.envoy.config.core.v3 import (
    ProxyProtocolConfig,
    ProxyProtocolConfigVersion,
    ProxyProtocolPassThroughTlVs,
    ProxyProtocolPassThroughTlVsPassTlVsMatchType,
    TlvEntry,
    TransportSocket,
)
from envoy_data_plane.envoy.extensions.transport_sockets.proxy_protocol.v3 import (
    ProxyProtocolUpstreamTransport,
)
from envoy_data_plane.envoy.extensions.transport_sockets.raw_buffer.v3 import RawBuffer
from envoy_data_plane.google.protobuf import Any

from toposeal.dataplane.envoy_plan import Peer
from toposeal.limits import PROXY_IDENTITY_TYPE


def said_of(caller: Peer) -> TlvEntry:
    """The one name that the chain lets in: the chain says it, so one cluster does for many callers."""
    return TlvEntry(type=PROXY_IDENTITY_TYPE, value=caller.spiffe.encode())


def begins_with_header() -> TransportSocket:
    """In clear, as every way to the application: a header, then what the caller sends. Of what chains say,
    that one value is in it.
    """
    said = ProxyProtocolPassThroughTlVs(
        match_type=ProxyProtocolPassThroughTlVsPassTlVsMatchType.INCLUDE, tlv_type=[PROXY_IDENTITY_TYPE]
    )
    clear = TransportSocket(name="envoy.transport_sockets.raw_buffer", typed_config=Any.pack(RawBuffer()))
    header = ProxyProtocolUpstreamTransport(
        config=ProxyProtocolConfig(version=ProxyProtocolConfigVersion.V2, pass_through_tlvs=said),
        transport_socket=clear,
    )
    return TransportSocket(
        name="envoy.transport_sockets.upstream_proxy_protocol", typed_config=Any.pack(header)
    )
