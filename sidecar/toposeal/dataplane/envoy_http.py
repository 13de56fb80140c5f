"""What speaks HTTP with whoever comes, in clear: as little of it as there can be. No IO."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from envoy_data_plane.envoy.config.core.v3 import HttpProtocolOptions
from envoy_data_plane.envoy.config.listener.v3 import Filter, FilterChain, FilterChainMatch
from envoy_data_plane.envoy.config.route.v3 import (
    DirectResponseAction,
    HeaderMatcher,
    Route,
    RouteConfiguration,
    RouteMatch,
    VirtualHost,
)
from envoy_data_plane.envoy.extensions.filters.http.router.v3 import Router
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    HttpConnectionManager,
    HttpConnectionManagerCodecType,
    HttpFilter,
)
from envoy_data_plane.envoy.type.matcher.v3 import StringMatcher
from envoy_data_plane.google.protobuf import Any

from toposeal.limits import CLEAR_CLIENT_TIMEOUT, MAX_CLEAR_HEADERS


def clear_chain(
    name: str, port: int, stat_prefix: str, filters: Sequence[HttpFilter], routes: Sequence[Route] = ()
) -> FilterChain:
    """What is not TLS at `port`: `filters` answer, or `routes` lead on, or it is 404."""
    match = FilterChainMatch(destination_port=port, transport_protocol="raw_buffer")
    manager = _manager(stat_prefix, filters, routes)
    http = Filter(name="envoy.filters.network.http_connection_manager", typed_config=Any.pack(manager))
    return FilterChain(filter_chain_match=match, filters=[http], name=name)


def is_get(path: str) -> list[HeaderMatcher]:
    """Exactly this request, query and all."""
    return [_is(":method", "GET"), _is(":path", path)]


def _is(name: str, value: str) -> HeaderMatcher:
    return HeaderMatcher(name=name, string_match=StringMatcher(exact=value))


def _manager(name: str, filters: Sequence[HttpFilter], routes: Sequence[Route]) -> HttpConnectionManager:
    """HTTP/1 alone, small and short. Envoy reads listeners and clusters from two files, in either order: a
    route may name a cluster that is still to come.
    """
    patience = timedelta(milliseconds=CLEAR_CLIENT_TIMEOUT)
    nothing = Route(match=RouteMatch(prefix="/"), direct_response=DirectResponseAction(status=404))
    quiet = Any.pack(Router(suppress_envoy_headers=True))
    router = HttpFilter(name="envoy.filters.http.router", typed_config=quiet)
    return HttpConnectionManager(
        codec_type=HttpConnectionManagerCodecType.HTTP1,
        stat_prefix=name,
        route_config=RouteConfiguration(
            name=name,
            virtual_hosts=[VirtualHost(name=name, domains=["*"], routes=[*routes, nothing])],
            validate_clusters=False,
        ),
        http_filters=[*filters, router],
        common_http_protocol_options=HttpProtocolOptions(idle_timeout=patience),
        max_request_headers_kb=MAX_CLEAR_HEADERS,
        stream_idle_timeout=patience,
        request_timeout=patience,
        request_headers_timeout=patience,
        delayed_close_timeout=timedelta(0),
        generate_request_id=False,
    )
