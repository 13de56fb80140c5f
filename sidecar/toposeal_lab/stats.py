"""Envoy's own counters, read from its admin socket as root: the second witness of every refusal."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Mapping
from urllib.parse import quote

_TIMEOUT_S = 3.0
_REFUSALS = "no_filter_chain_match|fail_verify|ssl.connection_error|no_certificate|cx_connect_fail"


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("envoy", timeout=_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_TIMEOUT_S)
        self.sock.connect(self._path)


def counters(admin: str, pattern: str = _REFUSALS) -> Mapping[str, int]:
    """Every counter whose name matches the regular expression; raises OSError or ValueError."""
    connection = _UnixConnection(admin)
    try:
        connection.request("GET", f"/stats?format=json&type=Counters&filter={quote(pattern)}")
        stats = json.loads(connection.getresponse().read())["stats"]
    finally:
        connection.close()
    return {stat["name"]: int(stat["value"]) for stat in stats if "name" in stat}


def risen(before: Mapping[str, int], after: Mapping[str, int]) -> str:
    """Which counters rose and by how much: `name +1, ...`; the process-wide ones are left to the others."""
    rises = {name: value - before.get(name, 0) for name, value in after.items()}
    return ", ".join(f"{name} +{rise}" for name, rise in sorted(rises.items()) if rise > 0)
