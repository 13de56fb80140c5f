"""Where the pod keeps what Envoy reads and connects to. Names only; no IO."""

from __future__ import annotations

from toposeal.dataplane.view import Layout
from toposeal.names import WORKLOAD_SOCKET

BOOTSTRAP_FILE = "bootstrap.json"
# Empty, one of them beside it: whether the pod's network is open, for whoever looks from outside.
CLOSED_MARK, OPEN_MARK = "closed", "open"
# What Envoy is sent, as files for people.
LISTENERS_FILE = "lds.json"
CLUSTERS_FILE = "cds.json"

# Envoy runs in the xDS directory and finds everything from there, so its bootstrap is the same bytes in
# every pod, and `envoy --mode validate` reads it wherever it lies.
ENVOY_LAYOUT = Layout(
    xds=".",
    admin="../envoy/admin.sock",
    discovery="../sockets/xds.sock",
    attestation="../sockets/attestation.sock",
    probe="../sockets/probe.sock",
    metrics="../sockets/metrics.sock",
)


def workload_socket(directory: str) -> str:
    """Where the application asks for its identity, below the daemon's state directory; no Envoy does."""
    return f"{directory}/{WORKLOAD_SOCKET}"


def layout_under(directory: str) -> Layout:
    """The same places for the daemon: absolute, below its state directory, which is a tmpfs."""
    return Layout(
        xds=f"{directory}/xds",
        admin=f"{directory}/envoy/admin.sock",
        discovery=f"{directory}/sockets/xds.sock",
        attestation=f"{directory}/sockets/attestation.sock",
        probe=f"{directory}/sockets/probe.sock",
        metrics=f"{directory}/sockets/metrics.sock",
    )
