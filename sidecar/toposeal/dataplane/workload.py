"""What SPIFFE's Workload API tells the pod's application: its own SVID, and whose CAs count for it. No IO.

Each member's CA is a trust domain of its own (PROTOCOL.md 3). The SVID is of the pod's; those of members that
an edge leads to or from are "federated" with it, in SPIFFE's words. No other is told (docs/adr/0032).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from toposeal._wire import workload_pb2 as wire
from toposeal.dataplane.view import MeshMember, PodView
from toposeal.evidence.pem import decode
from toposeal.names import app_spiffe_id, trust_domain_id


@dataclass(frozen=True)
class AppSvid:
    """A certificate by the pod's CA, and its key, which the application alone is given."""

    certificate: bytes  # DER
    key: bytes = field(repr=False)  # PKCS #8, DER


@dataclass(frozen=True)
class Told:
    """Whole responses: every message of a stream says all that holds (SPIFFE Workload API, 4.3)."""

    svid: bytes = field(repr=False)  # X509SVIDResponse
    bundles: bytes  # X509BundlesResponse


def asks_for_identity(view: PodView) -> bool:
    """Whether the pod's role does."""
    return view.topology.roles[view.own.role].workload_api


def told(view: PodView, svid: AppSvid) -> Told:
    """What the application of a pod that is open for `view` may know, with its `svid`."""
    own, own_id = _authority(view.own), trust_domain_id(view.own.domain)
    federated = {trust_domain_id(member.domain): _authority(member) for member in partners(view)}
    response = wire.X509SVIDResponse(
        svids=[
            wire.X509SVID(
                spiffe_id=app_spiffe_id(view.own.domain, view.own.role),
                x509_svid=svid.certificate,
                x509_svid_key=svid.key,
                bundle=own,
            )
        ],
        federated_bundles=federated,
    )
    bundles = wire.X509BundlesResponse(bundles={own_id: own, **federated})
    return Told(_encoded(response), _encoded(bundles))


def partners(view: PodView) -> Iterator[MeshMember]:
    """The other members that the topology lets the pod call, or be called by, at any port."""
    roles = view.topology.roles
    own = view.own.role
    called = {call.role for call in roles[own].calls}
    calling = {name for name, role in roles.items() if any(call.role == own for call in role.calls)}
    for member in view.members:
        if member.role in called | calling and member.iid != view.own.iid:
            yield member


def _authority(member: MeshMember) -> bytes:
    """The one CA of the trust domain that `member` is."""
    return b"".join(decode(member.ca_pem.encode("ascii"), "member.ca"))


def _encoded(response: wire.X509SVIDResponse | wire.X509BundlesResponse) -> bytes:
    """The same for the same content: a stream repeats nothing."""
    return response.SerializeToString(deterministic=True)
