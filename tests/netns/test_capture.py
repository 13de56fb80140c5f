"""What the captures that other tests rest on record."""

from __future__ import annotations

import time

from support.inside import spawn_python

from toposeal_lab.capture import Wire
from toposeal_lab.pods import NODE_IPV4, Node, Pod

FLOOD = """
import socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.connect((sys.argv[1], 9))
print("ready", flush=True)
while True:
    try:
        sock.send(b"from another pod")
    except OSError:
        pass
"""


def test_a_wire_holds_frames_of_its_own_pod_from_its_first_moment(node: Node, pods: tuple[Pod, Pod]) -> None:
    """Another pod sends all the time, also while the socket of the capture is made."""
    a, b = pods
    spawn_python(b, FLOOD, NODE_IPV4, uid=None)
    captures = []
    for _ in range(40):
        with Wire(node, a) as wire:
            captures.append(wire.stop(settle=0))
    assert sum(capture.carrying(b"from another pod") for capture in captures) == 0
    assert sum(capture.lost for capture in captures) == 0


def test_a_wire_holds_what_its_pod_sends(node: Node, pods: tuple[Pod, Pod]) -> None:
    a, _ = pods
    with Wire(node, a) as wire:
        spawn_python(a, FLOOD, NODE_IPV4, uid=None)
        time.sleep(0.1)
        assert wire.stop(settle=0).carrying(b"from another pod") > 0
