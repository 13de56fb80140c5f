"""Where the pod keeps what Envoy reads and connects to. Names only; no IO."""

from __future__ import annotations

from toposeal.dataplane.view import Layout

BOOTSTRAP_FILE = "bootstrap.json"
LISTENERS_FILE = "lds.json"
CLUSTERS_FILE = "cds.json"
MESH_SECRET_FILE = "sds-id.json"
INGRESS_SECRET_FILE = "sds-ingress.json"

# In the order of writing: nothing may name a secret or a cluster that is not there yet.
WRITING_ORDER = (
    BOOTSTRAP_FILE,
    MESH_SECRET_FILE,
    INGRESS_SECRET_FILE,
    CLUSTERS_FILE,
    LISTENERS_FILE,
)

# Envoy runs in the xDS directory and finds everything from there, so the closed files are the same
# bytes in every pod, and `envoy --mode validate` reads them wherever they lie.
ENVOY_LAYOUT = Layout(
    xds=".",
    admin="../envoy/admin.sock",
    attestation="../sockets/attestation.sock",
    probe="../sockets/probe.sock",
    metrics="../sockets/metrics.sock",
)


def layout_under(directory: str) -> Layout:
    """The same places for the daemon: absolute, below its state directory, which is a tmpfs."""
    return Layout(
        xds=f"{directory}/xds",
        admin=f"{directory}/envoy/admin.sock",
        attestation=f"{directory}/sockets/attestation.sock",
        probe=f"{directory}/sockets/probe.sock",
        metrics=f"{directory}/sockets/metrics.sock",
    )
