"""Ports that speak HTTP: each request is led by itself, and says who sends it. No IO.

A request passes two of these: the caller's chooses a member for it, the called one's tells the application
who the caller has proven to be. What Envoy adds, changes or ends by default is switched off here as far as it
can be (docs/adr/0024): a program should notice neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from envoy_data_plane.envoy.config.accesslog.v3 import AccessLog
from envoy_data_plane.envoy.config.cluster.v3 import Cluster
from envoy_data_plane.envoy.config.common.mutation_rules.v3 import HeaderMutation, HeaderMutationRemoveOnMatch
from envoy_data_plane.envoy.config.core.v3 import (
    HeaderValue,
    HeaderValueOption,
    HeaderValueOptionHeaderAppendAction,
    Http1ProtocolOptions,
    Http1ProtocolOptionsHeaderKeyFormat,
    Http2ProtocolOptions,
    HttpProtocolOptions,
    TypedExtensionConfig,
)
from envoy_data_plane.envoy.config.listener.v3 import Filter
from envoy_data_plane.envoy.config.route.v3 import (
    RetryPolicy,
    RetryPolicyRetryHostPredicate,
    Route,
    RouteAction,
    RouteConfiguration,
    RouteMatch,
    VirtualHost,
    WeightedCluster,
    WeightedClusterClusterWeight,
)
from envoy_data_plane.envoy.extensions.filters.http.router.v3 import Router
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    HttpConnectionManager,
    HttpConnectionManagerServerHeaderTransformation,
    HttpConnectionManagerUpgradeConfig,
    HttpFilter,
)
from envoy_data_plane.envoy.extensions.http.early_header_mutation.header_mutation.v3 import (
    HeaderMutation as EarlyHeaderMutation,
)
from envoy_data_plane.envoy.extensions.http.header_formatters.preserve_case.v3 import (
    PreserveCaseFormatterConfig,
)
from envoy_data_plane.envoy.extensions.retry.host.previous_hosts.v3 import PreviousHostsPredicate
from envoy_data_plane.envoy.extensions.upstreams.http.v3 import HttpProtocolOptions as UpstreamOptions
from envoy_data_plane.envoy.extensions.upstreams.http.v3 import HttpProtocolOptionsUseDownstreamHttpConfig
from envoy_data_plane.envoy.type.matcher.v3 import RegexMatcher, StringMatcher
from envoy_data_plane.google.protobuf import Any

from toposeal.dataplane.envoy_logs import failures_log, requests_log
from toposeal.dataplane.envoy_plan import Inbound, Outbound, OutsidePort, Peer
from toposeal.limits import (
    CONNECT_ATTEMPTS,
    CONNECTION_BUFFER,
    HTTP_CONNECTION_LIFE,
    HTTP_CONNECTION_WINDOW,
    HTTP_DRAIN,
    HTTP_HEADERS_KIB,
    HTTP_HEADERS_TIMEOUT,
    HTTP_IDLE,
    MAX_HTTP_FIELDS,
    MAX_HTTP_STREAMS,
)

IDENTITY_HEADER = "x-forwarded-client-cert"
# As gateways spell it that make names of variables of headers: WSGI and CGI take - and _ for one.
_IDENTITY_SPELLINGS = "x[-_]forwarded[-_]client[-_]cert"
_ENVOYS_OWN = "x-envoy-"  # by these a client could have its requests repeated, or make statistics without end
_NEVER = timedelta(0)
_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def lead_requests(cluster: Cluster, idle: int) -> None:
    """Make `cluster` take requests, in the version of HTTP that each came in: of a client's share one each.

    A connection to it that carries none is closed after `idle` milliseconds, before the other end would.
    """
    for share in cluster.circuit_breakers.thresholds if cluster.circuit_breakers else ():
        share.max_requests = share.max_connections
    options = UpstreamOptions(
        common_http_protocol_options=HttpProtocolOptions(
            idle_timeout=timedelta(milliseconds=idle),
            max_headers_count=MAX_HTTP_FIELDS,
            max_response_headers_kb=HTTP_HEADERS_KIB,
        ),
        use_downstream_protocol_config=HttpProtocolOptionsUseDownstreamHttpConfig(
            http_protocol_options=Http1ProtocolOptions(header_key_format=_case_as_it_is()),
            http2_protocol_options=_http2(),
        ),
    )
    cluster.typed_extension_protocol_options = {_OPTIONS: Any.pack(options)}


def calls(edge: Outbound, name: str, own_name: str, own: Peer) -> Filter:
    """From the pod's program to the role: each request to one of the members; where the role calls
    itself, in the parts that there are when all its members are.

    An attempt that has not become a connection goes to another member, and nothing else is tried twice. What
    the pod calls of itself passes no other Envoy: here it is said who calls.
    """
    action = RouteAction(timeout=_NEVER, retry_policy=_other_members())
    if edge.includes_self:
        here = _weight(own_name, 1)
        here.request_headers_to_add = [_identity(own)]
        others = [_weight(name, edge.most)] if edge.servers else []
        action.weighted_clusters = WeightedCluster(clusters=[*others, here])
    else:
        action.cluster = name
    life = HttpProtocolOptions(idle_timeout=_NEVER)
    return _filter(_manager("calls", Route(route=action), [failures_log()], life, host=edge.role))


def serves_member(edge: Inbound, client: Peer, cluster: str) -> Filter:
    """From one member to the application, which is told the one name that the chain lets in.

    Envoy would tell every name in the certificate, and a member writes into its own what it likes.
    """
    logs = [requests_log(client.spiffe)] if edge.logs_requests else []
    return _served(Route(request_headers_to_add=[_identity(client)]), cluster, logs)


def serves_outside(port: OutsidePort, cluster: str) -> Filter:
    """From whoever comes to the application, without any identity."""
    return _served(Route(), cluster, [requests_log("")] if port.logs_requests else [])


def _served(route: Route, cluster: str, logs: Sequence[AccessLog]) -> Filter:
    """A connection is in nobody's share while it carries no request, so it may neither idle nor stay."""
    whole = replace(route, route=RouteAction(cluster=cluster, timeout=_NEVER))
    life = HttpProtocolOptions(
        idle_timeout=timedelta(milliseconds=HTTP_IDLE),
        max_connection_duration=timedelta(milliseconds=HTTP_CONNECTION_LIFE),
    )
    manager = _manager("serves", whole, [failures_log(), *logs], life)
    manager.http1_safe_max_connection_duration = True
    manager.request_headers_timeout = timedelta(milliseconds=HTTP_HEADERS_TIMEOUT)
    manager.drain_timeout = timedelta(milliseconds=HTTP_DRAIN)
    return _filter(manager)


def _manager(
    name: str, route: Route, logs: Sequence[AccessLog], life: HttpProtocolOptions, host: str = ""
) -> HttpConnectionManager:
    """HTTP/1 or, from its preface on, HTTP/2; every request takes `route`. `host` is whom HTTP/1.0 means that
    does not say it.

    Without the delayed close, which would cut off the rest of an answer that waits for a slow reader.
    """
    router = Any.pack(Router(suppress_envoy_headers=True))
    everything = replace(route, match=RouteMatch(prefix=""))
    return HttpConnectionManager(
        stat_prefix=name,
        route_config=RouteConfiguration(
            name=name,
            virtual_hosts=[VirtualHost(name=name, domains=["*"], routes=[everything])],
            request_headers_to_remove=["x-envoy-internal"],
            validate_clusters=False,
        ),
        http_filters=[HttpFilter(name="envoy.filters.http.router", typed_config=router)],
        common_http_protocol_options=replace(life, max_headers_count=MAX_HTTP_FIELDS),
        http_protocol_options=Http1ProtocolOptions(
            accept_http_10=True, default_host_for_http_10=host, header_key_format=_case_as_it_is()
        ),
        http2_protocol_options=_http2(),
        server_header_transformation=HttpConnectionManagerServerHeaderTransformation.PASS_THROUGH,
        max_request_headers_kb=HTTP_HEADERS_KIB,
        stream_idle_timeout=_NEVER,
        delayed_close_timeout=_NEVER,
        access_log=list(logs),
        early_header_mutation_extensions=[_without_what_is_ours()],
        generate_request_id=False,
        proxy_100_continue=True,
        upgrade_configs=[HttpConnectionManagerUpgradeConfig(upgrade_type="websocket")],
    )


def _without_what_is_ours() -> TypedExtensionConfig:
    """Before anything else of Envoy's looks at a request."""
    ours = (
        StringMatcher(prefix=_ENVOYS_OWN),
        StringMatcher(safe_regex=RegexMatcher(regex=_IDENTITY_SPELLINGS)),
    )
    mutations = [
        HeaderMutation(remove_on_match=HeaderMutationRemoveOnMatch(key_matcher=matcher)) for matcher in ours
    ]
    return TypedExtensionConfig(
        name="envoy.http.early_header_mutation.header_mutation",
        typed_config=Any.pack(EarlyHeaderMutation(mutations=mutations)),
    )


def _other_members() -> RetryPolicy:
    """Only what was never sent, as for connections of bytes."""
    elsewhere = RetryPolicyRetryHostPredicate(
        name="envoy.retry_host_predicates.previous_hosts", typed_config=Any.pack(PreviousHostsPredicate())
    )
    return RetryPolicy(
        retry_on="connect-failure",
        num_retries=CONNECT_ATTEMPTS - 1,
        retry_host_predicate=[elsewhere],
        host_selection_retry_max_attempts=CONNECT_ATTEMPTS,
    )


def _weight(name: str, weight: int) -> WeightedClusterClusterWeight:
    return WeightedClusterClusterWeight(name=name, weight=weight)


def _identity(caller: Peer) -> HeaderValueOption:
    return HeaderValueOption(
        header=HeaderValue(key=IDENTITY_HEADER, value=f"URI={caller.spiffe}"),
        append_action=HeaderValueOptionHeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD,
    )


def _http2() -> Http2ProtocolOptions:
    """A stream buffers no more than a connection of bytes does."""
    return Http2ProtocolOptions(
        max_concurrent_streams=MAX_HTTP_STREAMS,
        initial_stream_window_size=CONNECTION_BUFFER,
        initial_connection_window_size=HTTP_CONNECTION_WINDOW,
    )


def _case_as_it_is() -> Http1ProtocolOptionsHeaderKeyFormat:
    """Of HTTP/1 headers: Envoy's default is lower case."""
    formatter = TypedExtensionConfig(
        name="envoy.http.stateful_header_formatters.preserve_case",
        typed_config=Any.pack(PreserveCaseFormatterConfig()),
    )
    return Http1ProtocolOptionsHeaderKeyFormat(stateful_formatter=formatter)


def _filter(manager: HttpConnectionManager) -> Filter:
    return Filter(name="envoy.filters.network.http_connection_manager", typed_config=Any.pack(manager))
