"""Why members do not call each other by streams of one connection (docs/adr/0022).

If this fails, Envoy has become better, and the decision wants another look.
"""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import pytest
from support.datapath import TIMEOUT, application

from toposeal_lab.bench_dataplane_mesh import PORT
from toposeal_lab.bench_dataplane_pair import BY_CONNECTION, BY_TUNNEL, Pair, start_pair
from toposeal_lab.pods import Node, Pod

LONG = 32 << 20  # more than the window of a stream holds
# Once is enough to lose an application's bytes, but it is a race; a tunnel loses long before the last.
ATTEMPTS = {False: 5, True: 100}
LOOPBACK = "127.0.0.1"

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
        with application(server, PORT, b"ready", LOOPBACK):
            await_answer(client, pair)
        with application(server, PORT, bytes(LONG), LOOPBACK):
            lost = any(answered(client, pair) != (LONG, True) for _ in range(ATTEMPTS[loses]))
    assert lost == loses


def await_answer(client: Pod, pair: Pair) -> None:
    """Until both Envoys serve."""
    end = time.monotonic() + 10 * TIMEOUT
    while answered(client, pair) != (len(b"ready"), True):
        assert time.monotonic() < end
        time.sleep(0.05)


def answered(client: Pod, pair: Pair) -> tuple[int, bool]:
    """How much of an answer arrives, and whether it ends as the server ended it."""
    count = 0
    try:
        with client.inside(), socket.create_connection((LOOPBACK, pair.call_port), TIMEOUT) as connection:
            connection.sendall(b"hi")
            while more := connection.recv(1 << 20):
                count += len(more)
    except OSError:  # reset, or nothing more comes
        return count, False
    return count, True
