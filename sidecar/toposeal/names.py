"""Names derived from keys and from the topology (PROTOCOL.md 3). No IO."""

from __future__ import annotations

import re

from toposeal.encoding import digest
from toposeal.limits import MAX_NAME_LENGTH

# Of the application's identity, below the state directory: a directory of its own, mounted elsewhere too.
WORKLOAD_DIRECTORY = "workload"
WORKLOAD_SOCKET = f"{WORKLOAD_DIRECTORY}/api.sock"

_NAME = re.compile(rf"[a-z0-9-]{{1,{MAX_NAME_LENGTH}}}", re.ASCII)


def is_name(text: object) -> bool:
    """Whether `text` is a legal role or mesh name: `[a-z0-9-]{1,40}`, compared whole."""
    return isinstance(text, str) and _NAME.fullmatch(text) is not None


def mesh_id(owner_root: bytes, mesh: str) -> bytes:
    """48 bytes that name one mesh of one owner root (canonical JSON bytes, exact)."""
    return digest("toposeal/v1/mesh", owner_root, mesh.encode("ascii"))


def instance_id(ik_spki: bytes) -> bytes:
    """`iid`, 48 bytes: one boot of one pod."""
    return digest("toposeal/v1/instance", ik_spki)


def ca_digest(ca_spki: bytes) -> bytes:
    """48 bytes that pin one CA key."""
    return digest("toposeal/v1/ca", ca_spki)


def member_domain(ca_key_digest: bytes, mesh: str) -> str:
    """SPIFFE trust domain, DNS name and SNI of one member: `m-<32 hex>.<mesh>`.

    The dot is needed: X.509 URI name constraints match host names only with one.
    """
    return f"m-{ca_key_digest.hex()[:32]}.{mesh}"


def spiffe_id(domain: str, role: str) -> str:
    """The one URI SAN of a mesh leaf."""
    return f"spiffe://{domain}/{role}"


def app_spiffe_id(domain: str, role: str) -> str:
    """The one URI SAN of what the application is given: never a mesh leaf's, since no role has a slash."""
    return f"{spiffe_id(domain, role)}/app"


def trust_domain_id(domain: str) -> str:
    """How SPIFFE names the trust domain that a member is (SPIFFE-ID, 2.1)."""
    return f"spiffe://{domain}"
