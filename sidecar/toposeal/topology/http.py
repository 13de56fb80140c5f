"""Schema and checks of ports that speak HTTP: what a topology may say of them. No IO."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from toposeal import limits
from toposeal.errors import Mismatch
from toposeal.topology.model import Http, Role
from toposeal.topology.schema import Integer, ListOf, Object, OneOf, mismatch

LOGS = ("nothing", "requests")  # by whether requests are


def _entry(port: int, log: str) -> Http:
    return Http(port, logs_requests=bool(LOGS.index(log)))


HTTP = ListOf(
    Object({"port": Integer(1, 65_535), "log": OneOf(LOGS)}, _entry),
    0,
    limits.MAX_PORTS_PER_ROLE,
    "ports that speak HTTP",
)


def ordered_http(entries: Collection[Http]) -> tuple[Http, ...]:
    return tuple(sorted(entries, key=lambda entry: entry.port))


def check_http(role: Role) -> Iterator[Mismatch]:
    """Every mismatch of what `role` says of HTTP. The port is the application's: whatever leads there speaks
    HTTP, ingress too, or a client outside could send the header that says who calls.
    """
    path = f"roles.{role.name}.http"
    ports = [entry.port for entry in role.http]
    opened = {entry.port for entry in role.ingress}
    for port in sorted(set(ports)):
        if port in opened:
            yield mismatch(path, f"{port}, one of ingress", "its target: what leads to HTTP speaks it")
        elif port not in role.serves:
            yield mismatch(path, port, "a port that the role serves")
        if ports.count(port) > 1:
            yield mismatch(path, f"{port} twice", "every port once")
