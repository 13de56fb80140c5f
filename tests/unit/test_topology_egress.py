"""Which addresses can be a destination outside the mesh, whatever DNS says."""

from __future__ import annotations

import ipaddress

import pytest

from toposeal.limits import PROBE_ADDRESS, VIP_NETWORK
from toposeal.topology.egress import METADATA, NOWHERE, is_destination, overlap


@pytest.mark.parametrize(
    ("address", "within", "admitted"),
    [
        ("93.184.216.34", (), True),
        ("2606:2800:220:1::1", (), True),
        ("10.0.0.1", (), False),
        ("fd00::1", (), False),
        ("192.168.1.1", (), False),
        ("10.0.0.1", ("10.0.0.0/8",), True),
        ("11.0.0.1", ("10.0.0.0/8",), False),
        ("93.184.216.34", ("10.0.0.0/8",), False),
        ("168.63.129.16", (), False),
        ("100.100.100.200", ("100.64.0.0/10",), False),
        ("fd00:ec2::254", ("fd00::/8",), False),
        ("169.254.169.254", (), False),
        ("::ffff:8.8.8.8", (), False),
        ("64:ff9b::8.8.8.8", (), False),
        ("240.10.0.1", (), False),
        ("fec0::1", ("fec0::/16",), False),
    ],
)
def test_N2_an_answer_counts_only_where_a_destination_can_be(
    address: str, within: tuple[str, ...], admitted: bool
) -> None:
    assert is_destination(ipaddress.ip_address(address), within) is admitted


def test_the_mesh_itself_and_metadata_services_are_never_one() -> None:
    vips = ipaddress.ip_network(VIP_NETWORK)
    assert any(overlap(vips, network) for network in NOWHERE)
    everything = ("0.0.0.0/0", "::/0")
    for address in (*METADATA, ipaddress.ip_address(PROBE_ADDRESS)):
        assert not is_destination(address, everything)
    assert is_destination(ipaddress.ip_address("10.0.0.1"), everything)
