"""Why members do not call each other by streams of one connection (docs/adr/0022).

If this fails, Envoy has become better, and the decision wants another look.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from pathlib import Path

import pytest

from toposeal_lab.bench_dataplane_mesh import PORT
from toposeal_lab.bench_dataplane_pair import BY_CONNECTION, BY_TUNNEL, Pair, start_pair
from toposeal_lab.pods import Node, Pod

TIMEOUT_S = 10.0
LONG = 32 << 20  # more than the window of a stream holds
_ATTEMPTS = 5

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")


@pytest.mark.parametrize(
    ("pair", "loses"), [(BY_CONNECTION, False), (BY_TUNNEL, True)], ids=["connection", "tunnel"]
)
def test_a_tunnel_loses_the_end_of_a_long_answer_that_ends_with_the_connection(
    pair: Pair, loses: bool, tmp_path: Path
) -> None:
    tmp_path.chmod(0o755)
    with Node() as node:
        client, server = node.pod("client"), node.pod("server")
        start_pair(pair, client, server, tmp_path, 1)
        assert answered(client, server, pair, 10) == (10, True)
        # Once is enough to lose an application's bytes; it is a race, so not each time.
        lost = any(answered(client, server, pair, LONG) != (LONG, True) for _ in range(_ATTEMPTS))
    assert lost == loses


def answered(client: Pod, server: Pod, pair: Pair, size: int) -> tuple[int, bool]:
    """How much of an answer of `size` bytes arrives, and whether it ends as the server ended it."""
    with server.inside():
        listener = socket.create_server(("127.0.0.1", PORT))
    thread = threading.Thread(target=_answer, args=(listener, size))
    thread.start()
    with listener, client.inside(), _connected(pair.call_port) as connection:
        count, ended = 0, True
        try:
            while more := connection.recv(1 << 20):
                count += len(more)
        except ConnectionResetError:
            ended = False
    thread.join()
    return count, ended


def _answer(listener: socket.socket, size: int) -> None:
    connection, _ = listener.accept()
    with connection:
        connection.sendall(bytes(size))


def _connected(port: int) -> socket.socket:
    end = time.monotonic() + TIMEOUT_S
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), TIMEOUT_S)
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)
