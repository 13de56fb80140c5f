"""The way to the sidecar's figures and its health: two requests, in clear, to the daemon's own socket. No IO.

Envoy's admin is nobody's to ask but the daemon's: what may be said is chosen in `metrics`, not here.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from envoy_data_plane.envoy.config.cluster.v3 import CircuitBreakers, CircuitBreakersThresholds, Cluster
from envoy_data_plane.envoy.config.core.v3 import RuntimeFractionalPercent
from envoy_data_plane.envoy.config.listener.v3 import FilterChain
from envoy_data_plane.envoy.config.route.v3 import Route, RouteAction, RouteMatch
from envoy_data_plane.envoy.extensions.filters.http.local_ratelimit.v3 import LocalRateLimit
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpFilter
from envoy_data_plane.envoy.type.v3 import FractionalPercent, TokenBucket
from envoy_data_plane.google.protobuf import Any

from toposeal.dataplane.envoy_closed import METRICS
from toposeal.dataplane.envoy_clusters import pipe_cluster
from toposeal.dataplane.envoy_http import clear_chain, is_get
from toposeal.dataplane.envoy_plan import PodPlan
from toposeal.dataplane.metrics import HEALTH_PATH, METRICS_PATH
from toposeal.dataplane.view import Layout
from toposeal.limits import MAX_METRICS_REQUESTS, METRICS_PER_SECOND, METRICS_TIMEOUT

_CLUSTER = "metrics"
_ALWAYS = RuntimeFractionalPercent(default_value=FractionalPercent(numerator=100))


def metrics_clusters(plan: PodPlan, layout: Layout) -> Iterator[Cluster]:
    """The daemon's socket, for few requests at once, where the role has a metrics port."""
    if plan.metrics:
        cluster = pipe_cluster(_CLUSTER, layout.metrics, MAX_METRICS_REQUESTS)
        few = CircuitBreakersThresholds(
            max_connections=MAX_METRICS_REQUESTS,
            max_pending_requests=MAX_METRICS_REQUESTS,
            max_requests=MAX_METRICS_REQUESTS,
        )
        cluster.circuit_breakers = CircuitBreakers(thresholds=[few])
        yield cluster


def metrics_chains(plan: PodPlan) -> Iterator[FilterChain]:
    """One, where the role has a metrics port: so many requests a second, and of them those two."""
    if plan.metrics:
        limit = HttpFilter(name="envoy.filters.http.local_ratelimit", typed_config=Any.pack(_limit()))
        routes = [_route(METRICS_PATH), _route(HEALTH_PATH)]
        yield clear_chain(f"{METRICS}{plan.metrics}", plan.metrics, "metrics", [limit], routes)


def _limit() -> LocalRateLimit:
    """For all who ask together: there is no state of any one of them."""
    bucket = TokenBucket(
        max_tokens=METRICS_PER_SECOND,
        tokens_per_fill=METRICS_PER_SECOND,
        fill_interval=timedelta(seconds=1),
    )
    return LocalRateLimit(
        stat_prefix="metrics", token_bucket=bucket, filter_enabled=_ALWAYS, filter_enforced=_ALWAYS
    )


def _route(path: str) -> Route:
    match = RouteMatch(path=path, headers=is_get(path))
    patience = timedelta(milliseconds=METRICS_TIMEOUT)
    return Route(match=match, route=RouteAction(cluster=_CLUSTER, timeout=patience))
