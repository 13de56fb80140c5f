"""What our clusters and chains are called where it depends on who is there. No IO."""

from __future__ import annotations

import hashlib

from toposeal.dataplane.envoy_plan import Inbound, OutsidePort
from toposeal.limits import MAX_MEMBER_SHARES


def role_name(role: str, port: int) -> str:
    return f"out|{role}|{port}"


def host_name(host: str, port: int) -> str:
    return f"egress|{host}|{port}"


def application_name(port: int) -> str:
    """Of the pod's own calls to itself."""
    return f"app|{port}"


def member_name(edge: Inbound, domain: str) -> str:
    """Of one member's calls, or of a crowd's whose names fall there: always the same ones."""
    if not edge.is_crowd:
        return f"app|{edge.port}|{domain}"
    digest = hashlib.sha256(domain.encode("ascii")).digest()
    return share_name(edge.port, int.from_bytes(digest[:8], "big") % MAX_MEMBER_SHARES)


def share_name(port: int, number: int) -> str:
    return f"app|{port}|share-{number}"


def ingress_name(port: OutsidePort) -> str:
    return f"app|{port.target}|ingress|{port.port}"
