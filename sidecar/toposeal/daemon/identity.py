"""Mints who this pod is for one boot: IK, CA, signed IDENTITY. Nothing of it is ever stored."""

from __future__ import annotations

import time

from toposeal.daemon.config import RunConfig
from toposeal.host.entropy import new_signing_keys, random_bytes
from toposeal.membership.identity import make_identity
from toposeal.membership.state import Own
from toposeal.names import mesh_id
from toposeal.pki.mint import mint_ca, serial_number


def new_boot(config: RunConfig, addresses: tuple[str, ...]) -> Own:
    """Fresh keys and the identity that they sign; a restarted pod is another member."""
    keys = new_signing_keys()
    ca = mint_ca(keys.ca, config.mesh, serial_number(random_bytes(20)), int(time.time()))
    mesh = mesh_id(config.owner.canonical, config.mesh)
    signed = make_identity(keys, mesh, config.mesh, config.role, ca)
    return Own(signed, keys, config.owner, config.topology, addresses, config.min_version)
