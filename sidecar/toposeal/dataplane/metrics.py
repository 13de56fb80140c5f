"""The sidecar's figures as text for Prometheus: numbers, by names and labels that all stand here. No IO.

Whoever reaches the pod reads them. So there is no address, name, certificate or word of anybody in them, and
nothing of Envoy's that is not in the table below.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from toposeal.dataplane.refusals import Kind
from toposeal.gate.machine import State
from toposeal.limits import INBOUND_PORT, OUTBOUND_PORT

METRICS_PATH = "/metrics"
HEALTH_PATH = "/healthz"
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
UNTOLD = "untold"  # refusals that were only counted: more came than are told each second


@dataclass(frozen=True)
class Counted:
    """What one Envoy has counted since its start."""

    stats: Mapping[str, int | str]  # by Envoy's names; any but those of the table are passed over
    refusals: Mapping[str, int]  # by Kind, or UNTOLD


@dataclass(frozen=True)
class Figures:
    """All that a metrics port may say."""

    state: State
    epoch: int  # 0 without a seal
    members: int  # of the sealed manifest, 0 without one
    quote_age_ms: int | None  # None before this pod's first quote
    counted: Counted


@dataclass(frozen=True)
class Family:
    """One metric; `values` are all that its `label` can be."""

    name: str
    kind: str  # counter or gauge
    meaning: str
    label: str = ""
    values: tuple[str, ...] = ("",)


_WAYS = ("in", "out")
_ENDS = ("application", "member", "outside")
FAMILIES = (
    Family("toposeal_gate_state", "gauge", "1 for the state that the gate is in", "state", tuple(State)),
    Family("toposeal_epoch", "gauge", "epoch of the sealed manifest"),
    Family("toposeal_members", "gauge", "members of the sealed manifest"),
    Family("toposeal_quote_age_seconds", "gauge", "time since this pod's last quote"),
    Family(
        "toposeal_refusals_total",
        "counter",
        "connections that Envoy refused or could not make",
        "kind",
        (*Kind, UNTOLD),
    ),
    Family(
        "toposeal_updates_rejected_total",
        "counter",
        "configurations and leaves that Envoy did not take",
        "what",
        ("clusters", "leaves", "listeners"),
    ),
    Family("toposeal_connections_total", "counter", "connections that Envoy took", "way", _WAYS),
    Family("toposeal_connections", "gauge", "connections that Envoy has", "way", _WAYS),
    Family("toposeal_handshakes_total", "counter", "TLS handshakes that succeeded", "way", _WAYS),
    Family("toposeal_handshake_failures_total", "counter", "TLS handshakes that failed", "way", _WAYS),
    Family("toposeal_upstream_connections_total", "counter", "connections that Envoy made", "to", _ENDS),
    Family(
        "toposeal_upstream_failures_total", "counter", "connections that Envoy could not make", "to", _ENDS
    ),
    Family("toposeal_sent_bytes_total", "counter", "bytes that went there, before TLS", "to", _ENDS),
    Family("toposeal_received_bytes_total", "counter", "bytes that came from there, after TLS", "to", _ENDS),
)

# Envoy's names, and where they count.
_LISTENERS = {f"0.0.0.0_{INBOUND_PORT}": "in", f"127.0.0.1_{OUTBOUND_PORT}": "out"}
_CLUSTERS = {"app": "application", "out": "member", "egress": "outside"}
_UPDATES = {
    "cluster_manager.cds": "clusters",
    "listener_manager.lds": "listeners",
    "sds.id": "leaves",
    "sds.ingress": "leaves",
}
_OF_LISTENERS = {
    "downstream_cx_total": "toposeal_connections_total",
    "downstream_cx_active": "toposeal_connections",
}
_OF_CLUSTERS = {
    "upstream_cx_total": "toposeal_upstream_connections_total",
    "upstream_cx_connect_fail": "toposeal_upstream_failures_total",
    "upstream_cx_tx_bytes_total": "toposeal_sent_bytes_total",
    "upstream_cx_rx_bytes_total": "toposeal_received_bytes_total",
}
_OF_TLS = {
    "ssl.handshake": "toposeal_handshakes_total",
    "ssl.connection_error": "toposeal_handshake_failures_total",
    "ssl.fail_verify_error": "toposeal_handshake_failures_total",
    "ssl.fail_verify_no_cert": "toposeal_handshake_failures_total",
    "ssl.fail_verify_san": "toposeal_handshake_failures_total",
}


def _any_of(*tables: Mapping[str, str]) -> str:
    return "(" + "|".join(re.escape(name) for table in tables for name in table) + ")"


# For Envoy, which answers with what matches, and for us, who believe no more of the answer.
STATS = (
    rf"^listener\.{_any_of(_LISTENERS)}\.{_any_of(_OF_LISTENERS, _OF_TLS)}$"
    rf"|^cluster\.{_any_of(_CLUSTERS)}\|.+\.{_any_of(_OF_CLUSTERS, _OF_TLS)}$"
    rf"|^{_any_of(_UPDATES)}\.update_rejected$"
)
_STAT = re.compile(STATS, re.ASCII)


def exposition(figures: Figures) -> bytes:
    """The text format of Prometheus, version 0.0.4: every family, in one order, at most 8 KiB."""
    samples = _samples(figures)
    return "".join(line for family in FAMILIES for line in _lines(family, samples)).encode("ascii")


def _samples(figures: Figures) -> dict[tuple[str, str], int]:
    """(family, value of its label) to figure; the age of a quote that is not there is left out."""
    found = Counter({(family.name, value): 0 for family in FAMILIES for value in family.values})
    found["toposeal_gate_state", figures.state] = 1
    found["toposeal_epoch", ""] = figures.epoch
    found["toposeal_members", ""] = figures.members
    for kind, count in figures.counted.refusals.items():
        found["toposeal_refusals_total", kind] += count
    for name, value in figures.counted.stats.items():
        place = _place(name)
        if place is not None and isinstance(value, int):
            found[place] += value
    if figures.quote_age_ms is None:
        del found["toposeal_quote_age_seconds", ""]
    else:
        found["toposeal_quote_age_seconds", ""] = figures.quote_age_ms // 1000
    return found


def _place(name: str) -> tuple[str, str] | None:
    """Where one of Envoy's figures counts; None for what is nobody's to know."""
    match = _STAT.fullmatch(name)
    if match is None:
        return None
    listener, of_listener, cluster, of_cluster, source = match.groups()
    if source:
        return "toposeal_updates_rejected_total", _UPDATES[source]
    if listener:
        return {**_OF_LISTENERS, **_OF_TLS}[of_listener], _LISTENERS[listener]
    if of_cluster in _OF_TLS:
        return _OF_TLS[of_cluster], "out"
    return _OF_CLUSTERS[of_cluster], _CLUSTERS[cluster]


def _lines(family: Family, samples: Mapping[tuple[str, str], int]) -> Iterator[str]:
    yield f"# HELP {family.name} {family.meaning}\n# TYPE {family.name} {family.kind}\n"
    for value in family.values:
        if (family.name, value) in samples:
            label = f'{{{family.label}="{value}"}}' if family.label else ""
            yield f"{family.name}{label} {samples[family.name, value]}\n"
