"""What the application is told: whose CAs by the topology's edges, in exactly SPIFFE's messages."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_pem_x509_certificate
from support.shop import member, role, topology

from toposeal._wire import workload_pb2 as wire
from toposeal.dataplane.layout import layout_under, workload_socket
from toposeal.dataplane.view import MeshMember, PodView
from toposeal.dataplane.workload import AppSvid, asks_for_identity, partners, told
from toposeal.limits import MAX_CERTIFICATE_SIZE, MAX_REPLICAS
from toposeal.topology.model import Call

# edge calls web, web calls db, db calls itself, log neither calls nor is called.
SHOP = topology(
    role("edge", 1, calls=(Call("web", 80),)),
    role("web", 2, serves=(80,), calls=(Call("db", 1), Call("db", 2)), workload_api=True),
    role("db", 2, serves=(1, 2), calls=(Call("db", 1),)),
    role("log", 1),
)
MEMBERS = (member("db", 11), member("db", 12), member("edge", 13), member("log", 14), member("web", 15))
SECOND_WEB = member("web", 16)
SVID = AppSvid(b"certificate", b"the key")


def authority(of: MeshMember) -> bytes:
    return load_pem_x509_certificate(of.ca_pem.encode()).public_bytes(Encoding.DER)


def seen_by(own: MeshMember, *more: MeshMember) -> PodView:
    return PodView(SHOP, own, (*MEMBERS, *more), 1)


@pytest.mark.parametrize(
    ("own", "expected"),
    [("web", {"db", "edge"}), ("db", {"db", "web"}), ("edge", {"web"}), ("log", set())],
)
def test_partners_are_those_at_the_other_end_of_an_edge(own: str, expected: set[str]) -> None:
    this = next(m for m in MEMBERS if m.role == own)
    found = list(partners(seen_by(this)))
    assert {m.role for m in found} == expected
    assert this.iid not in {m.iid for m in found}
    assert len(found) == len({m.iid for m in found})


def test_replicas_of_a_role_that_does_not_call_itself_are_strangers() -> None:
    assert SECOND_WEB.iid not in {m.iid for m in partners(seen_by(MEMBERS[4], SECOND_WEB))}
    assert {m.iid for m in partners(seen_by(MEMBERS[0]))} >= {MEMBERS[1].iid}


def test_a_role_asks_by_its_topology_alone() -> None:
    assert [asks_for_identity(seen_by(m)) for m in MEMBERS] == [False, False, False, False, True]


def test_the_messages_say_name_key_and_each_trust_domain_once() -> None:
    web = MEMBERS[4]
    said = told(seen_by(web), SVID)
    found = wire.X509SVIDResponse.FromString(said.svid)
    own = authority(web)
    (svid,) = found.svids
    assert svid.spiffe_id == f"spiffe://{web.domain}/web/app"
    assert (svid.x509_svid, svid.x509_svid_key, svid.bundle) == (b"certificate", b"the key", own)
    federated = {f"spiffe://{m.domain}": authority(m) for m in MEMBERS[:3]}
    assert dict(found.federated_bundles) == federated
    bundles = wire.X509BundlesResponse.FromString(said.bundles)
    assert dict(bundles.bundles) == {f"spiffe://{web.domain}": own, **federated}


def test_the_same_is_said_by_the_same_bytes() -> None:
    view = seen_by(MEMBERS[4])
    turned = replace(view, members=tuple(reversed(view.members)), generation=2)
    assert told(view, SVID) == told(turned, SVID)


def test_F4_no_key_is_in_a_representation() -> None:
    assert "the key" not in repr(SVID) and "the key" not in repr(told(seen_by(MEMBERS[4]), SVID))


def test_the_largest_response_is_within_what_clients_take() -> None:
    assert MAX_REPLICAS * (MAX_CERTIFICATE_SIZE + 128) < 4 << 20


def test_the_socket_is_not_among_the_daemons() -> None:
    assert workload_socket("/run/toposeal") == "/run/toposeal/workload/api.sock"
    assert layout_under("/run/toposeal").discovery.startswith("/run/toposeal/sockets/")
