"""The guest image's unit: after its commands, and nothing else of ours, nothing gets in or out."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.guest import commands, install
from support.inside import APP_UID, MARKER, canary, run_python, spawn_python

from toposeal.dataplane.firewall import Backend
from toposeal.host import firewall
from toposeal_lab.capture import Wire
from toposeal_lab.pods import Node

KINDS = {"nft": Backend.NFT, "legacy": Backend.LEGACY}
LISTEN = """
import socket
sock = socket.create_server(("::", 8080), family=socket.AF_INET6, dualstack_ipv6=True)
print("ready", flush=True)
while True:
    sock.accept()[0].close()
"""
KNOCK = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], 8080), 0.5).close()
    print("in")
except OSError:
    print("out")
"""


@pytest.mark.parametrize("kind", KINDS)
def test_I1_I2_a_guest_closed_at_boot_sends_and_takes_nothing(node: Node, tmp_path: Path, kind: str) -> None:
    """No sidecar ever starts; the application, as its user and as root, is there first."""
    guest, peer = node.pod("guest"), node.pod("peer")
    spawn_python(guest, LISTEN, uid=APP_UID)
    assert [run_python(peer, KNOCK, address, uid=None).strip() for address in guest.addresses] == ["in", "in"]
    for command in commands(install(tmp_path, kind)):
        guest.run(command)
    with guest.inside():
        assert firewall.check(KINDS[kind]) is KINDS[kind]  # the daemon takes it for its own
    assert [run_python(peer, KNOCK, address, uid=None).strip() for address in guest.addresses] == [
        "out",
        "out",
    ]
    with Wire(node, guest) as wire:
        for uid in (APP_UID, None):
            canary(guest, *peer.addresses, uid=uid)
        capture = wire.stop()
    assert capture.lost == 0
    assert capture.carrying(MARKER) == 0
