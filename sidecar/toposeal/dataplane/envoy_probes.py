"""What answers a kubelet: Envoy itself, from what it last heard of the application. No IO.

Nothing that a stranger sends goes further than Envoy, and nothing that the application says comes out:
200 or 503 without a body. Envoy asks by itself, at its own pace, on the pod's own address.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from itertools import groupby

from envoy_data_plane.envoy.config.cluster.v3 import Cluster
from envoy_data_plane.envoy.config.core.v3 import HealthCheck as Question
from envoy_data_plane.envoy.config.core.v3 import HealthCheckHttpHealthCheck
from envoy_data_plane.envoy.config.listener.v3 import FilterChain
from envoy_data_plane.envoy.extensions.filters.http.health_check.v3 import HealthCheck
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpFilter
from envoy_data_plane.envoy.type.v3 import Int64Range, Percent
from envoy_data_plane.google.protobuf import Any

from toposeal.dataplane.envoy_closed import PROBED
from toposeal.dataplane.envoy_clusters import application_cluster
from toposeal.dataplane.envoy_http import clear_chain, is_get
from toposeal.dataplane.envoy_plan import PodPlan, Probed
from toposeal.limits import PROBE_CONNECTIONS, PROBE_PATIENCE, PROBED_AGAIN, PROBED_EVERY

_WELL = Int64Range(start=200, end=400)  # what a kubelet takes for success
_ALL = Percent(value=100.0)


def probe_clusters(plan: PodPlan) -> Iterator[Cluster]:
    """One for each question; nothing else leads there."""
    asked = {(probe.target, probe.path): probe for probe in plan.probes}
    for probe in asked.values():
        cluster = application_cluster(_name(probe), plan.application, probe.target, PROBE_CONNECTIONS)
        cluster.health_checks = [_question(probe.path)]
        yield cluster


def probe_chains(plan: PodPlan) -> Iterator[FilterChain]:
    """One for each port, in clear: what is not TLS there is a probe, or nothing."""
    for port, probes in groupby(plan.probes, key=lambda probe: probe.port):
        answers = [
            HttpFilter(name="envoy.filters.http.health_check", typed_config=_answer(p)) for p in probes
        ]
        yield clear_chain(f"{PROBED}{port}", port, "probes", answers)


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


def _answer(probe: Probed) -> Any:
    return Any.pack(
        HealthCheck(
            pass_through_mode=False,
            cluster_min_healthy_percentages={_name(probe): _ALL},
            headers=is_get(probe.path),
        )
    )
