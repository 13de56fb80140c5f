"""What the captures that other tests rest on record."""

from __future__ import annotations

import socket

from support.inside import spawn_python

from toposeal_lab.capture import Wire
from toposeal_lab.pods import NODE_IPV4, Node, Pod

SEND = """
import socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.connect((sys.argv[1], 9))
print("ready", flush=True)
while True:
    try:
        sock.send(b"from a pod")
    except OSError:
        pass
"""
MANY = 20_000


def test_a_wire_holds_frames_of_its_own_pod_from_its_first_moment(node: Node, pods: tuple[Pod, Pod]) -> None:
    """Another pod sends all the time, also while the socket of the capture is made."""
    a, b = pods
    spawn_python(b, SEND, NODE_IPV4, uid=None)
    captures = []
    for _ in range(40):
        with Wire(node, a) as wire:
            captures.append(wire.stop(settle=0))
    assert sum(capture.carrying(b"from a pod") for capture in captures) == 0
    assert sum(capture.lost for capture in captures) == 0


def test_a_wire_holds_all_that_its_pod_has_sent_until_it_is_stopped(
    node: Node, pods: tuple[Pod, Pod]
) -> None:
    """However far behind its reader is."""
    a, _ = pods
    with a.inside():
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with sender, Wire(node, a) as wire:
        for _ in range(MANY):
            sender.sendto(b"from a pod", (NODE_IPV4, 9))
        capture = wire.stop(settle=0)
    assert (capture.carrying(b"from a pod"), capture.lost) == (MANY, 0)


def test_a_wire_ends_while_its_pod_goes_on_sending(node: Node, pods: tuple[Pod, Pod]) -> None:
    a, _ = pods
    with Wire(node, a) as wire:
        spawn_python(a, SEND, NODE_IPV4, uid=None)
        wire.stop(settle=0)
