"""Real daemons, behind their rules, fetch collateral from the owner's PCCS and restart without it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.daemons import END_S, SEAL_S, START_S, Daemon, World, ready, world

from toposeal.limits import DAEMON_UID
from toposeal.verification.high_water import parse_marks
from toposeal_lab import namespaces
from toposeal_lab.pods import NODE_IPV4
from toposeal_lab.vendor_service import Fault, VendorService, vendor_service

ROLES = {"web": "web", "db-1": "db"}


class Fetching:
    """A mesh without a file of collateral, and the PCCS that it asks."""

    def __init__(self, made: World, pccs: VendorService) -> None:
        self.world, self.pccs = made, pccs
        self._roots = made.directory / "pccs-ca.pem"
        self._roots.write_text(pccs.ca_pem)
        self._roots.chmod(0o644)

    def cache(self, name: str) -> Path:
        return self.world.directory / "cache" / name

    def start(self, name: str) -> Daemon:
        place = self.cache(name)
        if not place.exists():
            place.mkdir(parents=True)
            os.chown(place, DAEMON_UID, DAEMON_UID)
        given = {
            "collateral": None,
            "collateral-cache": str(place),
            "pccs": self.pccs.url,
            "kds": self.pccs.url,
            "service-ca": str(self._roots),
        }
        return self.world.start(name, changed=given)


@pytest.fixture(scope="module")
def fetching() -> Iterator[Fetching]:
    ready()
    with world(ROLES) as made, ExitStack() as stack:
        with namespaces.entered(made.node.namespace):
            pccs = stack.enter_context(vendor_service(NODE_IPV4))
        pccs.serve_tdx(made.vendor.collateral(evaluation=20), pccs=True)
        found = Fetching(made, pccs)
        for name in ROLES:
            found.start(name)
        for name in ROLES:
            made[name].wait("phase", SEAL_S, phase="active")
        yield found


def test_a_mesh_seals_with_what_its_members_have_fetched(fetching: Fetching) -> None:
    fmspc = fetching.world.vendor.fmspc.hex()
    assert any(fmspc.upper() in request for request in fetching.pccs.requests)
    for name in ROLES:
        parts = {event["part"] for event in fetching.world[name].events("collateral")}
        assert f"tdx {fmspc}" in parts
        marks = parse_marks((fetching.cache(name) / "marks.json").read_bytes())
        assert marks.evaluations == {fmspc: 20}


def test_E9_fault_14_a_restart_without_the_service_seals_with_the_cache(fetching: Fetching) -> None:
    fetching.pccs.faults["/"] = Fault(status=503)
    for name in ROLES:
        fetching.world[name].stop()
    for name in ROLES:
        fetching.start(name)
    for name in ROLES:
        fetching.world[name].wait("phase", SEAL_S, phase="active")
    for name in ROLES:
        fetching.world[name].stop()


def test_E9_fault_14_a_cache_without_its_marks_does_not_start(fetching: Fetching) -> None:
    (fetching.cache("web") / "marks.json").unlink()
    member = fetching.start("web")
    assert member.ended(START_S + END_S) == 1
    assert "collateral_rollback" in member.stderr
