"""Who may connect to whom: the plan follows the topology's edges and the manifest, and nothing else."""

from __future__ import annotations

import dataclasses

import pytest
from support.shop import MEMBERS, SHOP, member, role, topology, view

from toposeal.dataplane.envoy_plan import OutsideHost, OutsidePort, OutsideRange, PodPlan, plan
from toposeal.dataplane.view import MeshMember, PodView
from toposeal.errors import LocalProtocolError, Reason
from toposeal.limits import INGRESS_CONNECTIONS
from toposeal.topology.egress import Egress
from toposeal.topology.model import Call


def named(role_name: str) -> list[MeshMember]:
    return [m for m in MEMBERS if m.role == role_name]


def planned(view_: PodView, **changes: object) -> PodPlan:
    return plan(dataclasses.replace(view_, **changes))  # type: ignore[arg-type]


def test_a_role_is_open_to_its_callers_alone() -> None:
    (inbound,) = plan(view("db")).inbound
    assert inbound.port == 6379
    assert {peer.domain for peer in inbound.clients} == {m.domain for m in named("api")}


def test_D4_the_reverse_of_an_edge_is_no_edge() -> None:
    assert plan(view("db")).outbound == ()
    assert all(edge.role != "web" for edge in plan(view("api")).outbound)


def test_an_edge_leads_to_every_member_of_the_role() -> None:
    (edge,) = plan(view("web")).outbound
    assert (edge.role, edge.port, edge.vip, edge.includes_self) == ("api", 8080, "240.10.0.1", False)
    assert [peer.domain for peer in edge.servers] == [m.domain for m in named("api")]
    assert [peer.addresses for peer in edge.servers] == [m.addresses for m in named("api")]


def test_a_peer_is_one_ca_one_name_one_uri() -> None:
    (edge,) = plan(view("api")).outbound
    (peer,), (db,) = edge.servers, named("db")
    assert (peer.domain, peer.ca_pem) == (db.domain, db.ca_pem)
    assert peer.spiffe == f"spiffe://{db.domain}/db"


def test_what_is_open_to_anyone() -> None:
    (port,) = plan(view("web")).ingress
    assert port == OutsidePort(8443, 8080, INGRESS_CONNECTIONS, False, False, False)
    assert plan(view("db")).ingress == ()
    assert plan(view("db")).attestation_port == 8444


def test_a_generation_names_the_update() -> None:
    assert plan(view("db", generation=7)).version == "generation-7"


def test_a_role_that_calls_itself_counts_its_own_pod_apart() -> None:
    crowd = topology(role("api", 2, serves=(8080,), calls=(Call("api", 8080),)))
    both = (member("api", 12), member("api", 13))
    made = plan(PodView(crowd, both[0], both, 1))
    (edge,) = made.outbound
    assert edge.includes_self
    assert [peer.domain for peer in edge.servers] == [both[1].domain]
    assert [peer.domain for peer in made.inbound[0].clients] == [both[1].domain]


def test_a_role_without_members_cannot_be_reached() -> None:
    only_web = PodView(SHOP, named("web")[0], tuple(named("web")), 1)
    assert [edge.servers for edge in plan(only_web).outbound] == [()]


def test_the_application_is_reached_over_ipv4_where_there_is_one() -> None:
    own = member("db", 14, "fd77::14", "10.77.0.14")
    assert plan(PodView(SHOP, own, (own,), 1)).application == "10.77.0.14"
    own = member("db", 14, "fd77::14")
    assert plan(PodView(SHOP, own, (own,), 1)).application == "fd77::14"


DB, WEB = named("db")[0], named("web")[0]
REFUSED: dict[str, dict[str, object]] = {
    "generation": {"generation": 0},
    "own": {"own": member("db", 99)},
    "own.addresses": {"own": (lonely := dataclasses.replace(DB, addresses=())), "members": (lonely,)},
    "members.iid": {"members": (DB, dataclasses.replace(WEB, iid=DB.iid))},
    "members.domain": {"members": (DB, dataclasses.replace(WEB, domain=DB.domain))},
    "members.ca_pem": {"members": (DB, dataclasses.replace(WEB, ca_pem=""))},
    "members.role": {"members": (DB, dataclasses.replace(WEB, role="bank"))},
    "members.addresses": {"members": (DB, dataclasses.replace(WEB, addresses=("web.example",)))},
}


@pytest.mark.parametrize("field", REFUSED)
def test_a_view_that_no_manifest_gives_is_our_own_fault(field: str) -> None:
    with pytest.raises(LocalProtocolError) as caught:
        planned(view("db"), **REFUSED[field])
    assert caught.value.reason is Reason.INTERNAL
    assert caught.value.mismatches[0].field == f"view.{field}"


def test_a_member_with_two_cas_is_refused() -> None:
    """Each of them could mint the other's names."""
    with pytest.raises(LocalProtocolError, match="2 CAs"):
        planned(view("db"), members=(DB, dataclasses.replace(WEB, ca_pem=WEB.ca_pem + DB.ca_pem)))


def test_an_address_with_a_scope_is_refused() -> None:
    with pytest.raises(LocalProtocolError, match="scope"):
        planned(view("db"), members=(DB, dataclasses.replace(WEB, addresses=("fe80::1%eth0",))))


OUTSIDE = topology(
    role(
        "web",
        1,
        egress=(
            Egress(443, host="api.example.com"),
            Egress(5432, host="ledger.corp.example", within=("10.0.0.0/8",), tls_ca="CA"),
            Egress(25, cidr="10.77.0.0/24"),
            Egress(26, cidr="100.64.0.0/10"),
        ),
    ),
    role("db", 1),
)
OWN, OTHER = member("web", 11), member("db", 14)


def outside(role_name: str = "web", **resolved: tuple[str, ...]) -> PodPlan:
    named = {host.replace("_", "."): addresses for host, addresses in resolved.items()}
    own = OWN if role_name == "web" else OTHER
    return plan(PodView(OUTSIDE, own, (OTHER, OWN), 1, named))


def test_a_host_outside_is_what_was_answered_for_it() -> None:
    api, ledger = outside(
        api_example_com=("8.8.8.8", "2606:4700::1"), ledger_corp_example=("10.1.1.1",)
    ).hosts
    assert api == OutsideHost("api.example.com", 443, "240.10.128.1", ("8.8.8.8", "2606:4700::1"), "")
    assert ledger == OutsideHost("ledger.corp.example", 5432, "240.10.128.2", ("10.1.1.1",), "CA")


def test_a_host_that_nobody_answers_for_leads_nowhere() -> None:
    assert [host.addresses for host in outside().hosts] == [(), ()]


def test_N2_what_no_answer_may_say_is_left_out() -> None:
    """A member, a metadata service, loopback, a private address where none is admitted."""
    bad = ("10.77.0.14", "10.77.0.11", "169.254.169.254", "127.0.0.1", "240.10.0.1")
    api, ledger = outside(api_example_com=(*bad, "10.1.1.1"), ledger_corp_example=(*bad, "10.1.1.1")).hosts
    assert (api.addresses, ledger.addresses) == ((), ("10.1.1.1",))


def test_of_a_range_members_and_metadata_services_are_withheld() -> None:
    near, far = outside().ranges
    assert near == OutsideRange("10.77.0.0/24", 25, ("10.77.0.11", "10.77.0.14"))
    assert far == OutsideRange("100.64.0.0/10", 26, ("100.100.100.200",))


def test_D4_egress_is_the_own_roles_alone() -> None:
    assert (outside("db").hosts, outside("db").ranges) == ((), ())


CLUSTER_IPS = ("10.77.0.200", "fd00:96::7")
NEAR = Egress(5432, cidr="10.77.0.0/24")
MAIL = Egress(25, host="mx.example.com", within=("10.0.0.0/8",))
CALLED = topology(
    role("web", 1, calls=(Call("db", 5432),)),
    role("db", 1, serves=(5432,), calls=(Call("db", 5432),), addresses=CLUSTER_IPS),
    role("log", 1, egress=(NEAR, MAIL)),
)


def called(own: MeshMember, *others: MeshMember, **resolved: tuple[str, ...]) -> PodPlan:
    named = {host.replace("_", "."): addresses for host, addresses in resolved.items()}
    return plan(PodView(CALLED, own, (own, *others), 1, named))


def test_an_edge_has_the_addresses_that_the_topology_names() -> None:
    for own in (member("web", 11), member("db", 14)):
        (edge,) = called(own, member("db", 15)).outbound
        assert (edge.role, edge.port, edge.addresses) == ("db", 5432, CLUSTER_IPS)
    (api,) = plan(view("web")).outbound
    assert api.addresses == ()


def test_an_address_that_is_another_members_means_the_role_nevertheless() -> None:
    """Whoever answers has to prove to be of the role: the one who has the address is not even asked."""
    (edge,) = called(member("web", 11), member("db", 15), member("log", 16, *CLUSTER_IPS)).outbound
    assert edge.addresses == CLUSTER_IPS
    assert [peer.addresses for peer in edge.servers] == [("10.77.0.15",)]


def test_D4_an_address_of_a_role_is_withheld_from_whoever_may_not_call_it() -> None:
    made = called(member("log", 16), mx_example_com=("10.1.1.1", *CLUSTER_IPS))
    assert made.outbound == ()
    assert [part.withheld for part in made.ranges] == [("10.77.0.16", "10.77.0.200")]
    assert [host.addresses for host in made.hosts] == [("10.1.1.1",)]
