"""Schema and checks of probes: what a topology may let a kubelet ask. No IO."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence

from toposeal import limits
from toposeal.errors import Mismatch
from toposeal.topology.model import Probe
from toposeal.topology.schema import Integer, ListOf, Object, Text, mismatch

_PORT = Integer(1, 65_535)

PROBES = ListOf(
    Object(
        {
            "port": _PORT,
            "path": Text(re.compile(r"/[A-Za-z0-9._~/-]{0,127}", re.ASCII), "a path of 1 to 128 characters"),
            "target": _PORT,
        },
        Probe,
    ),
    0,
    limits.MAX_PROBES_PER_ROLE,
    "probes",
)


def ordered_probes(entries: Collection[Probe]) -> tuple[Probe, ...]:
    return tuple(sorted(entries, key=lambda entry: (entry.port, entry.path)))


def check_probes(path: str, entries: Sequence[Probe], attestation_port: int) -> Iterator[Mismatch]:
    """Every mismatch of one role's probes, of which `path` is the field.

    A port may be a served one: connections in clear are probes there, all others need a certificate.
    """
    for entry in entries:
        for name, port in (("port", entry.port), ("target", entry.target)):
            if port in limits.RESERVED_PORTS or port == limits.POD_DNS_PORT:
                yield mismatch(
                    path, f"{name} {port}", "a port outside the sidecar's own, and not that of DNS"
                )
        if entry.port == attestation_port:
            yield mismatch(path, entry.port, "a port other than the attestation port")
    places = [(entry.port, entry.path) for entry in entries]
    for place in sorted(set(places)):
        if places.count(place) > 1:
            yield mismatch(path, f"{place[0]} {place[1]} twice", "every port and path once")
