"""Schema and checks of ports that begin with a PROXY header: what a topology may say of them. No IO."""

from __future__ import annotations

from collections.abc import Iterator

from toposeal import limits
from toposeal.errors import Mismatch
from toposeal.topology.model import Role
from toposeal.topology.schema import Integer, ListOf, mismatch

PROXY_PROTOCOL = ListOf(
    Integer(1, 65_535), 0, limits.MAX_PORTS_PER_ROLE, "ports that begin with a PROXY header"
)


def check_proxy_protocol(role: Role) -> Iterator[Mismatch]:
    """Every mismatch of what `role` says of PROXY headers. The port is the application's: whatever leads
    there begins with a header, ingress too, or a client outside could send the one that says who calls.
    """
    path = f"roles.{role.name}.proxy_protocol"
    opened = {entry.port for entry in role.ingress}
    probed = {probe.target for probe in role.probes}
    for port in role.proxy_protocol:
        if port in opened:
            yield mismatch(path, f"{port}, one of ingress", "its target: all that leads there has a header")
        elif port not in role.serves:
            yield mismatch(path, port, "a port that the role serves")
        if role.speaks_http(port):
            yield mismatch(
                path, f"{port}, one of http", "a port of bytes: requests say by themselves who calls"
            )
        if port in probed:
            yield mismatch(
                path, f"{port}, the target of a probe", "a port that no probe asks: it has no header"
            )
