"""Members whose applications have an identity: as much of each as that is made of, and its socket."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import cast

from support.forge import TestMember
from toposeal.daemon.app_identity import AppIdentity
from toposeal.dataplane.view import MeshMember, PodView
from toposeal.membership.state import Own
from toposeal.topology.model import Topology


def view_of(member: TestMember, members: Sequence[TestMember], declared: Topology) -> PodView:
    """What `member` sees of a manifest of `members`."""
    return PodView(declared, _known(member), tuple(map(_known, members)), 1)


def own_of(member: TestMember, declared: Topology) -> Own:
    made = SimpleNamespace(
        identity=SimpleNamespace(role=member.role, ca=SimpleNamespace(der=member.ca_der)),
        keys=SimpleNamespace(ca=member.ca_key),
        topology=SimpleNamespace(topology=declared),
    )
    return cast(Own, made)


@asynccontextmanager
async def identity_of(member: TestMember, declared: Topology, path: str) -> AsyncIterator[AppIdentity]:
    """Running, and listening at `path` if its role asks."""
    identity = AppIdentity(own_of(member, declared), path)
    running = asyncio.create_task(identity.run())
    try:
        yield identity
    finally:
        running.cancel()
        await asyncio.wait({running})
        await identity.close()


async def listening(path: str) -> None:
    while not os.path.exists(path):
        await asyncio.sleep(0.01)


def _known(member: TestMember) -> MeshMember:
    return MeshMember(member.domain.encode(), member.role, member.domain, member.ca_pem, ("10.77.0.1",))
