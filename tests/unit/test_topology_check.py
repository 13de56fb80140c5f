"""What a well-formed topology must also mean."""

from __future__ import annotations

from typing import Any

import pytest
from support.topologies import (
    DELETE,
    changed,
    document,
    mixed,
    payload,
    reference,
    refusals,
    role,
    snp_policy,
    snp_reference,
)

from toposeal.errors import Reason
from toposeal.limits import MAX_REPLICAS
from toposeal.topology.parse import parse_topology

INVALID = Reason.TOPOLOGY_INVALID
TWINS = Reason.ROLES_INDISTINGUISHABLE


def _refused(value: object) -> set[tuple[Reason, str]]:
    return refusals(lambda: parse_topology(payload(value)))


def _accepted(value: object) -> bool:
    return parse_topology(payload(value)) is not None


def _two(one: dict[str, Any], two: dict[str, Any]) -> dict[str, Any]:
    return document(roles={"a": role(tdx=[one]), "b": role(tdx=[two])})


def test_T2_roles_with_the_same_measurement_and_config_digest_are_refused() -> None:
    assert _refused(_two(reference(1), reference(1))) == {(TWINS, "roles.b.tdx[0]")}
    assert _accepted(_two(reference(1), reference(2)))


@pytest.mark.parametrize("name", ["mrtd", "rtmr1", "rtmr2", "rtmr3", "mrconfigid"])
def test_T2_a_measured_difference_tells_roles_apart(name: str) -> None:
    assert _accepted(_two(reference(rtmr3="33" * 48), reference(**{"rtmr3": "33" * 48, name: "ee" * 48})))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rtmr0", "ee" * 48),
        ("mrowner", "ee" * 48),
        ("mrownerconfig", "ee" * 48),
        ("mrseam", ["ee" * 48]),
        ("td_attributes", "0000001800000000"),
        ("xfam", "e718060000000000"),
    ],
)
def test_T2_what_the_host_alone_chooses_does_not_tell_roles_apart(name: str, value: object) -> None:
    other = reference(**{"rtmr0": "dd" * 48, "mrseam": ["dd" * 48], name: value})
    assert _refused(_two(reference(rtmr0="dd" * 48, mrseam=["dd" * 48]), other)) == {
        (TWINS, "roles.b.tdx[0]")
    }


@pytest.mark.parametrize("name", ["rtmr1", "rtmr2", "rtmr3"])
def test_T2_any_differs_from_nothing(name: str) -> None:
    one, two = reference(rtmr3="33" * 48), reference(**{"rtmr3": "33" * 48, name: "any"})
    assert _refused(_two(one, two)) == {(TWINS, "roles.b.tdx[0]")}
    assert _refused(_two(two, one)) == {(TWINS, "roles.b.tdx[0]")}
    assert _refused(_two(two, two)) == {(TWINS, "roles.b.tdx[0]")}


_OTHER_EVENTS = {"base": "44" * 48, "events": ["55" * 48]}


@pytest.mark.parametrize("other", ["instance", "any", "33" * 48, _OTHER_EVENTS])
def test_T2_who_extended_the_register_does_not_tell_roles_apart(other: object) -> None:
    """The sidecar of either role makes the same event of its instance id, and the base is one guest's."""
    own, another = reference(rtmr3="instance"), reference(rtmr3=other)
    for pair in ((own, another), (another, own), (reference(rtmr3=_OTHER_EVENTS), another)):
        assert _refused(_two(*pair)) == {(TWINS, "roles.b.tdx[0]")}
    assert _accepted(_two(own, reference(2, rtmr3=other)))


def _two_on_snp(one: dict[str, Any], two: dict[str, Any]) -> dict[str, Any]:
    roles = {"a": role(1, snp=[one]), "b": role(2, snp=[two])}
    return document(snp=snp_policy(), roles=roles)


def test_T2_SNP_roles_differ_in_measurement_or_host_data() -> None:
    own = snp_reference(1)
    assert _refused(_two_on_snp(own, snp_reference(1))) == {(TWINS, "roles.b.snp[0]")}
    assert _accepted(_two_on_snp(own, snp_reference(2)))
    assert _accepted(_two_on_snp(own, snp_reference(1, measurement="ee" * 48)))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("guest_svn", 7),
        ("family_id", "ee" * 16),
        ("image_id", "ee" * 16),
        ("id_key_digests", ["ee" * 48]),
        ("author_key_digests", ["ee" * 48]),
    ],
)
def test_T2_what_an_ID_block_says_does_not_tell_roles_apart(name: str, value: object) -> None:
    own = snp_reference(1, family_id="dd" * 16, image_id="dd" * 16, id_key_digests=["dd" * 48])
    assert _refused(_two_on_snp(own, {**own, name: value})) == {(TWINS, "roles.b.snp[0]")}


def test_T2_each_kind_is_told_apart_by_itself() -> None:
    """Two roles that differ on TDX are one on SNP, and the other way round; both are reported at once."""
    same = {"tdx": [reference(1)], "snp": [snp_reference(1)]}
    roles = {"a": role(**same), "b": role(**same)}
    assert _refused(document(snp=snp_policy(), roles=roles)) == {
        (TWINS, "roles.b.tdx[0]"),
        (TWINS, "roles.b.snp[0]"),
    }


def test_a_role_needs_a_reference_of_some_kind() -> None:
    assert _refused(changed("roles.web.tdx", DELETE)) == {(INVALID, "roles.web")}
    assert _accepted(changed("roles.web.tdx", DELETE, mixed()))
    assert _refused(changed("roles.db.snp", DELETE, mixed())) == {(INVALID, "roles.db")}


@pytest.mark.parametrize("kind", ["tdx", "snp"])
def test_references_of_a_kind_need_its_policy(kind: str) -> None:
    """Once for each role that has them."""
    assert _refused(changed(kind, DELETE, mixed())) == {(INVALID, kind)}
    assert _accepted(mixed())


def test_E12_a_policy_that_admits_no_product_is_refused() -> None:
    assert _refused(mixed(snp=snp_policy(products={}))) == {(INVALID, "snp.products")}


def test_a_policy_without_references_is_legal() -> None:
    assert _accepted(document(snp=snp_policy()))
    value = changed("roles.web.tdx", DELETE, mixed())
    assert _accepted(value)
    assert _accepted(changed("tdx", DELETE, value))


@pytest.mark.parametrize(("kind", "machine"), [("tdx", "11" * 16), ("snp", "22" * 64)])
def test_E11_references_of_a_kind_need_machines(kind: str, machine: str) -> None:
    other = {"tdx": "snp", "snp": "tdx"}[kind]
    for machines in ({}, {other: "any"}):
        found = _refused(changed("roles.web.platforms", machines, mixed()))
        assert (INVALID, f"roles.web.platforms.{kind}") in found
        assert ((INVALID, f"roles.web.platforms.{other}") in found) is (machines == {})
    for listed in ("any", [machine]):
        assert _accepted(changed("roles.web.platforms", {other: "any", kind: listed}, mixed()))


def test_machines_of_a_kind_without_references_are_nobodys() -> None:
    assert _accepted(changed("roles.db.platforms", {"snp": "any"}, mixed()))
    assert _refused(changed("roles.db.platforms", {"tdx": "any"}, mixed())) == {
        (INVALID, "roles.db.platforms.snp")
    }


def test_T2_any_pair_of_references_of_two_roles_counts_and_is_named_once() -> None:
    one = role(tdx=[reference(1), reference(2), reference(3)])
    two = role(tdx=[reference(4), reference(3), reference(2)])
    assert _refused(document(roles={"a": one, "b": two})) == {(TWINS, "roles.b.tdx[2]")}


def test_references_of_one_role_may_overlap() -> None:
    one = role(tdx=[reference(1), reference(1, rtmr0="11" * 48), reference(1, rtmr1="any")])
    assert _accepted(document(roles={"a": one}))


def test_T2_every_indistinguishable_pair_is_reported() -> None:
    roles = {name: role(1) for name in ("a", "b", "c")}
    assert _refused(document(roles=roles)) == {(TWINS, "roles.b.tdx[0]"), (TWINS, "roles.c.tdx[0]")}


def test_T8_edges_lead_to_a_port_that_a_known_role_serves() -> None:
    for call in (
        {"role": "nobody", "port": 6379},
        {"role": "db", "port": 6380},
        {"role": "web", "port": 8443},
    ):
        assert _refused(changed("roles.web.calls", [call])) == {(INVALID, "roles.web.calls")}


def test_T8_cyclic_edges_are_legal_since_members_open_together() -> None:
    value = changed("roles.db.calls", [{"role": "web", "port": 8080}, {"role": "db", "port": 6379}])
    assert _accepted(value)


def test_an_unreachable_role_is_legal() -> None:
    assert _accepted(changed("roles.web.calls", []))


def test_T8_min_above_max_is_refused() -> None:
    assert _refused(changed("roles.web.replicas", {"min": 3, "max": 2})) == {
        (INVALID, "roles.web.replicas.min")
    }
    assert _accepted(changed("roles.web.replicas", {"min": 2, "max": 2}))


def test_T8_one_role_must_be_there() -> None:
    none = {"min": 0, "max": 2}
    value = changed("roles.web.replicas", none)
    assert _accepted(value)
    assert _refused(changed("roles.db.replicas", none, value)) == {(INVALID, "roles")}


def test_T8_the_replicas_of_all_roles_are_bounded() -> None:
    value = changed("roles.web.replicas", {"min": 1, "max": MAX_REPLICAS - 1})
    assert _accepted(value)
    assert _refused(changed("roles.web.replicas", {"min": 1, "max": MAX_REPLICAS}, value)) == {
        (INVALID, "roles")
    }


def test_an_attempt_is_long_enough_for_a_quote() -> None:
    assert _refused(document(timers={"quote_ms": 60_001})) == {(INVALID, "timers.attempt_ms")}
    assert _accepted(document(timers={"quote_ms": 60_000}))


def test_a_lease_outlives_two_heartbeats_that_are_lost_and_a_seal_outlives_a_lease() -> None:
    assert _refused(document(timers={"heartbeat_ms": 10_001})) == {(INVALID, "timers.lease_ms")}
    assert _accepted(document(timers={"heartbeat_ms": 10_000}))
    assert _refused(document(timers={"reattest_ms": 29_999})) == {(INVALID, "timers.reattest_ms")}
    assert _accepted(document(timers={"reattest_ms": 30_000}))


@pytest.mark.parametrize("port", [53, 15_000, 15_001, 15_006, 15_053, 15_443, 15_499])
def test_the_sidecars_own_ports_are_refused_everywhere(port: int) -> None:
    assert _refused(document(attestation_port=port)) == {(INVALID, "attestation_port")}
    assert _refused(changed("roles.db.serves", [6379, port])) == {(INVALID, "roles.db.serves")}
    ingress = [{"port": port, "target": 8080}]
    assert _refused(changed("roles.web.ingress", ingress)) == {(INVALID, "roles.web.ingress")}


@pytest.mark.parametrize("port", [1, 52, 54, 14_999, 15_500, 65_535])
def test_ports_beside_the_reserved_ones_are_accepted(port: int) -> None:
    assert _accepted(changed("roles.db.serves", [6379, port], document(attestation_port=8444)))


def test_a_port_has_one_meaning_in_a_pod() -> None:
    assert _refused(document(attestation_port=8443)) == {(INVALID, "roles.web.ingress")}
    assert _refused(document(attestation_port=6379)) == {(INVALID, "roles.db.serves")}
    twice = [{"port": 8443, "target": 8080}, {"port": 8443, "target": 8081}]
    value = changed("roles.web.serves", [8080, 8081])
    assert _refused(changed("roles.web.ingress", twice, value)) == {(INVALID, "roles.web.ingress")}
    served = [{"port": 8081, "target": 8080}]
    assert _refused(changed("roles.web.ingress", served, value)) == {(INVALID, "roles.web.ingress")}


def test_several_ingress_ports_may_lead_to_one_target() -> None:
    entries = [{"port": 8443, "target": 8080}, {"port": 9443, "target": 8080}]
    assert _accepted(changed("roles.web.ingress", entries))


def test_ingress_leads_to_a_served_port() -> None:
    value = changed("roles.web.ingress", [{"port": 8443, "target": 8081}])
    assert _refused(value) == {(INVALID, "roles.web.ingress")}


@pytest.mark.parametrize(
    ("bits", "reasons"),
    [
        *[((1 << 28) | (1 << bit), {Reason.TD_DEBUG}) for bit in range(8)],
        ((1 << 28) | (1 << 29), {Reason.TD_MIGRATABLE}),
        ((1 << 28) | (1 << 17), {Reason.SERVICE_TD}),
        (0, {Reason.TD_ATTRIBUTES}),
        (
            1 | (1 << 17) | (1 << 29),
            {Reason.TD_DEBUG, Reason.SERVICE_TD, Reason.TD_MIGRATABLE, Reason.TD_ATTRIBUTES},
        ),
    ],
)
def test_attributes_that_no_owner_can_admit(bits: int, reasons: set[Reason]) -> None:
    value = reference(td_attributes=bits.to_bytes(8, "little").hex())
    field = "roles.web.tdx[1].td_attributes"
    assert _refused(changed("roles.web.tdx", [reference(), value])) == {(reason, field) for reason in reasons}


def test_other_attributes_are_the_owners_choice() -> None:
    bits = (1 << 28) | (1 << 27) | (1 << 30) | (1 << 63)
    assert _accepted(changed("roles.web.tdx.0.td_attributes", bits.to_bytes(8, "little").hex()))


def test_mismatches_of_meaning_are_reported_at_once() -> None:
    value = changed("roles.web.calls", [{"role": "nobody", "port": 1}], document(attestation_port=53))
    changed("roles.db.replicas", {"min": 2, "max": 1}, value)
    assert _refused(value) == {
        (INVALID, "attestation_port"),
        (INVALID, "roles.web.calls"),
        (INVALID, "roles.db.replicas.min"),
    }
