"""What answers a kubelet: Envoy itself, from what it last heard of the application. No IO.

Nothing that a stranger sends goes further than Envoy, and nothing that the application says comes out:
200 or 503 without a body. Envoy asks by itself, at its own pace, on the pod's own address.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from itertools import groupby

from envoy_data_plane.envoy.config.cluster.v3 import Cluster
from envoy_data_plane.envoy.config.core.v3 import HealthCheck as Question
from envoy_data_plane.envoy.config.core.v3 import HealthCheckHttpHealthCheck, HttpProtocolOptions
from envoy_data_plane.envoy.config.listener.v3 import Filter, FilterChain, FilterChainMatch
from envoy_data_plane.envoy.config.route.v3 import (
    DirectResponseAction,
    HeaderMatcher,
    Route,
    RouteConfiguration,
    RouteMatch,
    VirtualHost,
)
from envoy_data_plane.envoy.extensions.filters.http.health_check.v3 import HealthCheck
from envoy_data_plane.envoy.extensions.filters.http.router.v3 import Router
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    HttpConnectionManager,
    HttpConnectionManagerCodecType,
    HttpFilter,
)
from envoy_data_plane.envoy.type.matcher.v3 import StringMatcher
from envoy_data_plane.envoy.type.v3 import Int64Range, Percent
from envoy_data_plane.google.protobuf import Any

from toposeal.dataplane.envoy_closed import PROBED
from toposeal.dataplane.envoy_clusters import application_cluster
from toposeal.dataplane.envoy_plan import PodPlan, Probed
from toposeal.limits import (
    MAX_PROBE_HEADERS,
    PROBE_CLIENT_TIMEOUT,
    PROBE_PATIENCE,
    PROBED_AGAIN,
    PROBED_EVERY,
)

_WELL = Int64Range(start=200, end=400)  # what a kubelet takes for success
_ALL = Percent(value=100.0)


def probe_clusters(plan: PodPlan) -> Iterator[Cluster]:
    """One for each question; nothing else leads there."""
    asked = {(probe.target, probe.path): probe for probe in plan.probes}
    for probe in asked.values():
        cluster = application_cluster(_name(probe), plan.application, probe.target)
        cluster.health_checks = [_question(probe.path)]
        yield cluster


def probe_chains(plan: PodPlan) -> Iterator[FilterChain]:
    """One for each port, in clear: what is not TLS there is a probe, or nothing."""
    for port, probes in groupby(plan.probes, key=lambda probe: probe.port):
        match = FilterChainMatch(destination_port=port, transport_protocol="raw_buffer")
        manager = _manager(list(probes))
        filters = [
            Filter(name="envoy.filters.network.http_connection_manager", typed_config=Any.pack(manager))
        ]
        yield FilterChain(filter_chain_match=match, filters=filters, name=f"{PROBED}{port}")


def _name(probe: Probed) -> str:
    return f"{PROBED}{probe.target}|{probe.path}"


def _question(path: str) -> Question:
    """Intervals for whatever state Envoy thinks the application is in."""
    often, again = timedelta(milliseconds=PROBED_EVERY), timedelta(milliseconds=PROBED_AGAIN)
    return Question(
        timeout=timedelta(milliseconds=PROBE_PATIENCE),
        interval=often,
        unhealthy_threshold=1,
        healthy_threshold=1,
        http_health_check=HealthCheckHttpHealthCheck(host="localhost", path=path, expected_statuses=[_WELL]),
        no_traffic_interval=again,
        no_traffic_healthy_interval=often,
        unhealthy_interval=again,
    )


def _manager(probes: Sequence[Probed]) -> HttpConnectionManager:
    """HTTP/1 alone, no body, small and short; what is no probe is 404."""
    patience = timedelta(milliseconds=PROBE_CLIENT_TIMEOUT)
    nothing = Route(match=RouteMatch(prefix="/"), direct_response=DirectResponseAction(status=404))
    answers = [HttpFilter(name="envoy.filters.http.health_check", typed_config=_answer(p)) for p in probes]
    router = HttpFilter(name="envoy.filters.http.router", typed_config=Any.pack(Router()))
    return HttpConnectionManager(
        codec_type=HttpConnectionManagerCodecType.HTTP1,
        stat_prefix="probes",
        route_config=RouteConfiguration(
            name="probes", virtual_hosts=[VirtualHost(name="probes", domains=["*"], routes=[nothing])]
        ),
        http_filters=[*answers, router],
        common_http_protocol_options=HttpProtocolOptions(idle_timeout=patience),
        max_request_headers_kb=MAX_PROBE_HEADERS,
        stream_idle_timeout=patience,
        request_timeout=patience,
        request_headers_timeout=patience,
        delayed_close_timeout=timedelta(0),
        generate_request_id=False,
    )


def _answer(probe: Probed) -> Any:
    """To exactly this request, query and all."""
    return Any.pack(
        HealthCheck(
            pass_through_mode=False,
            cluster_min_healthy_percentages={_name(probe): _ALL},
            headers=[_is(":method", "GET"), _is(":path", probe.path)],
        )
    )


def _is(name: str, value: str) -> HeaderMatcher:
    return HeaderMatcher(name=name, string_match=StringMatcher(exact=value))
