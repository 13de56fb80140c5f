"""Checks of a metrics port: where a topology lets the sidecar's figures be read. No IO."""

from __future__ import annotations

from collections.abc import Iterator

from toposeal import limits
from toposeal.errors import Mismatch
from toposeal.topology.model import Role
from toposeal.topology.schema import mismatch


def check_metrics(role: Role, attestation_port: int) -> Iterator[Mismatch]:
    """Every mismatch of the metrics port of `role`. It is a port of its own: what is said there in clear is
    said to anybody, and is nobody's application.
    """
    path, port = f"roles.{role.name}.metrics", role.metrics
    if port is None:
        return
    if port in limits.RESERVED_PORTS or port == limits.POD_DNS_PORT:
        yield mismatch(path, port, "a port outside the sidecar's own, and not that of DNS")
    used = {
        "the attestation port": (attestation_port,),
        "served": role.serves,
        "one of ingress": [entry.port for entry in role.ingress],
        "one of probes": [entry.port for entry in role.probes],
    }
    for use, ports in used.items():
        if port in ports:
            yield mismatch(path, f"{port}, {use}", "a port that nothing else is at")
