"""Daemons told by initdata: they seal with what their hardware reports, and end with anything else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from support import daemons
from support.daemons import MESH, SEAL_S, World, ready, world

from toposeal.kubernetes.initdata import Initdata, PodIdentity, annotation, build
from toposeal.topology.owner import OwnerRoot, spki
from toposeal_lab.simtdx import TdxMeasurements, lab_measurements

TOLD = {"role": None, "mesh": None, "owner": None, "min-version": None}
FENCED = 5


class OneKey:
    """An owner who is known before there is a topology, since initdata names them."""

    key = Ed25519PrivateKey.generate()

    @classmethod
    def generate(cls) -> Ed25519PrivateKey:
        return cls.key


def initdata(role: str, mesh: str = MESH) -> Initdata:
    root = OwnerRoot.of([([spki(OneKey.key.public_key())], 1)])
    return build("tdx", PodIdentity(root.canonical, mesh, role, 1), {})


def measured(role: str, mesh: str) -> TdxMeasurements:
    return replace(lab_measurements(role, mesh), mrconfigid=initdata(role, mesh).digest)


@pytest.fixture(scope="module")
def made() -> Iterator[World]:
    ready()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(daemons, "lab_measurements", measured)
        patch.setattr(daemons, "Ed25519PrivateKey", OneKey)
        with world({"web": "web", "db": "db"}) as made:
            yield made


def handed(world: World, told: Initdata, name: str) -> dict[str, str | None]:
    """Arguments of a daemon that somebody has handed `told`."""
    path: Path = world.directory / f"{name}.initdata"
    path.write_text(annotation(told))
    path.chmod(0o644)
    return {**TOLD, "initdata": str(path)}


def test_E5_T11_the_host_hands_over_another_roles_initdata(made: World) -> None:
    """Genuine, of the right owner and mesh, and not what this VM was started with."""
    member = made.spare("web")
    made.start(member.pod.name, changed=handed(made, initdata("db"), "swapped"))
    assert member.ended(SEAL_S) == FENCED
    assert member.reason() == ("config_digest", "mrconfigid")


def test_members_told_by_initdata_seal(made: World) -> None:
    for name in ("web", "db"):
        made.start(name, changed=handed(made, initdata(name), name))
    for name in ("web", "db"):
        made[name].wait("gate", SEAL_S, state="open")
