"""The schema: every field, its bounds, and that there is no other field."""

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

from toposeal.encoding import digest
from toposeal.errors import Reason, TopologyError
from toposeal.limits import MAX_MISMATCHES, MAX_TOPOLOGY_SIZE, MAX_VERSION
from toposeal.topology.gpu import GpuDemand
from toposeal.topology.model import Call, Ingress, Platforms, TdxPolicy, TdxReference, Timers
from toposeal.topology.parse import parse_topology
from toposeal.topology.tee_schema import TCB_STATUSES


def _refused(value: object) -> set[tuple[Reason, str]]:
    return refusals(lambda: parse_topology(payload(value)))


def _invalid(path: str, value: object) -> None:
    """Setting `path` to `value` is refused with that very field."""
    expected = path
    for number in range(3):
        expected = expected.replace(f".{number}", f"[{number}]")
    assert _refused(changed(path, value)) == {(Reason.TOPOLOGY_INVALID, expected)}


def test_a_topology_becomes_a_value_with_everything_in_order() -> None:
    topology = parse_topology(payload())
    assert (topology.mesh, topology.version, topology.issued_at) == ("shop", 3, 1_767_225_600)
    assert topology.owner_root_digest == bytes.fromhex("0f" * 48)
    assert topology.attestation_port == 8444
    assert topology.timers == Timers()
    assert topology.tdx == TdxPolicy(frozenset({"UpToDate"}), frozenset({"INTEL-SA-00001"}), 17)
    assert list(topology.roles) == ["db", "web"]
    web = topology.roles["web"]
    assert (web.name, web.min_replicas, web.max_replicas) == ("web", 1, 1)
    assert (web.serves, web.calls, web.ingress) == ((8080,), (Call("db", 6379),), (Ingress(8443, 8080),))
    assert web.platforms == Platforms(None, None)
    assert topology.digest == digest("toposeal/v1/topology", payload())


def test_a_reference_keeps_each_register_in_its_place() -> None:
    full = reference(5, rtmr0="00" * 48, rtmr3="03" * 48, mrseam=["cc" * 48, "dd" * 48], mrowner="ee" * 48)
    topology = parse_topology(payload(changed("roles.web.tdx", [full])))
    assert topology.roles["web"].tdx == (
        TdxReference(
            mrtd=bytes.fromhex("aa" * 48),
            rtmr=tuple(bytes.fromhex(h * 48) for h in ("00", "b1", "b2")),  # type: ignore[arg-type]
            rtmr3=bytes.fromhex("03" * 48),
            mrconfigid=(5).to_bytes(48, "big"),
            mrowner=bytes.fromhex("ee" * 48),
            mrownerconfig=bytes(48),
            mrseam=frozenset({bytes.fromhex("cc" * 48), bytes.fromhex("dd" * 48)}),
            td_attributes=bytes.fromhex("0000001000000000"),
            xfam=bytes.fromhex("e702060000000000"),
        ),
    )


def test_lists_may_come_in_any_order_and_the_value_is_sorted() -> None:
    many = role(
        1,
        serves=[9, 8, 7],
        calls=[{"role": "db", "port": 2}, {"role": "db", "port": 1}],
        ingress=[{"port": 20, "target": 7}, {"port": 10, "target": 8}],
        platforms={"tdx": ["11" * 16, "00" * 16]},
    )
    topology = parse_topology(payload(document(roles={"web": many, "db": role(2, serves=[2, 1])})))
    web = topology.roles["web"]
    assert web.serves == (7, 8, 9)
    assert web.calls == (Call("db", 1), Call("db", 2))
    assert web.ingress == (Ingress(10, 8), Ingress(20, 7))
    assert web.platforms == Platforms(frozenset({bytes(16), b"\x11" * 16}), frozenset())


def test_a_topology_of_TDX_alone_has_nothing_of_SNP() -> None:
    topology = parse_topology(payload())
    assert topology.snp is None
    assert all((role.snp, role.gpus) == ((), None) for role in topology.roles.values())


def test_a_topology_of_SNP_alone_has_nothing_of_TDX() -> None:
    own = role(1, snp=[snp_reference(1, guest_svn=4)])
    del own["tdx"]
    value = document(snp=snp_policy(), roles={"web": own})
    topology = parse_topology(payload(changed("tdx", DELETE, value)))
    assert topology.tdx is None and topology.snp is not None
    web = topology.roles["web"]
    assert (web.tdx, len(web.snp), web.snp[0].guest_svn) == ((), 1, 4)
    assert web.platforms == Platforms(None, None)


def test_a_mixed_topology_keeps_each_kind_where_it_was_written() -> None:
    value = changed("roles.web.gpus", {"count": 2, "models": ["GH100", "GB100"]}, mixed())
    topology = parse_topology(payload(value))
    assert topology.tdx is not None and topology.snp is not None
    web, db = topology.roles["web"], topology.roles["db"]
    assert [(len(role.tdx), len(role.snp)) for role in (web, db)] == [(1, 1), (0, 1)]
    assert web.snp[0].host_data == (1).to_bytes(32, "big") != db.snp[0].host_data
    assert (web.gpus, db.gpus) == (GpuDemand(2, frozenset({"GH100", "GB100"})), None)


def test_the_roles_cannot_be_changed_afterwards() -> None:
    with pytest.raises(TypeError):
        parse_topology(payload()).roles["evil"] = None  # type: ignore[index]


def test_timers_are_optional_one_by_one() -> None:
    topology = parse_topology(payload(document(timers={"view_ms": 50, "leaf_lifetime_ms": 10_000})))
    assert topology.timers == Timers(view_ms=50, leaf_lifetime_ms=10_000)


def _paths(value: object, path: str = "") -> list[str]:
    """Every field of `value`, dotted."""
    if isinstance(value, list):
        return [p for i, item in enumerate(value) for p in _paths(item, f"{path}.{i}")]
    if not isinstance(value, dict):
        return []
    inner = [f"{path}.{name}" for name in value]
    return inner + [p for name, item in value.items() for p in _paths(item, f"{path}.{name}")]


_FIELDS = [path[1:] for path in _paths(document())]
# A role less is another topology; references of one kind alone are missed by what they mean.
_NOT_BY_SCHEMA = {"roles.web", "roles.db", "roles.web.tdx", "roles.db.tdx"}


@pytest.mark.parametrize("path", [path for path in _FIELDS if path not in _NOT_BY_SCHEMA])
def test_T9_every_field_is_required(path: str) -> None:
    _invalid(path, DELETE)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "timers.",
        "tdx.",
        "roles.web.",
        "roles.web.replicas.",
        "roles.web.tdx.0.",
        "roles.web.calls.0.",
        "roles.web.ingress.0.",
    ],
)
@pytest.mark.parametrize("name", ["colour", "critical", "x-any", "Mesh", "egress"])
def test_T9_an_unknown_field_is_refused_in_every_object(path: str, name: str) -> None:
    expected = (path + name).replace(".0", "[0]")
    assert _refused(changed(path + name, 1, document(timers={}))) == {(Reason.TOPOLOGY_INVALID, expected)}


@pytest.mark.parametrize("path", [*_FIELDS, "timers"])
@pytest.mark.parametrize("value", [None, True, "", {}, "ANY", -1, [None]])
def test_a_value_of_another_kind_is_refused(path: str, value: object) -> None:
    if (path, value) == ("timers", {}):
        return  # a valid one
    reasons = _refused(changed(path, value))
    start = path.replace(".0", "[0]")
    assert {reason for reason, _ in reasons} == {Reason.TOPOLOGY_INVALID}
    assert any(field.startswith(start) for _, field in reasons)


@pytest.mark.parametrize(
    "name",
    [
        "é",
        "e\u0301",
        "\u0430pi",
        "a\x00b",
        "a/b",
        "..",
        "%2f",
        "a" * 300,
        "a" * 41,
        "api.",
        "Api",
        "\u202eapi",
        "",
        "a b",
        "a_b",
        "web\n",
        "\uff41pi",
    ],
)
def test_T7_role_and_mesh_names_outside_the_charset_are_refused(name: str) -> None:
    assert _refused(changed("mesh", name)) == {(Reason.TOPOLOGY_INVALID, "mesh")}
    assert _refused(document(roles={"web": role(1), name: role(2)})) == {(Reason.TOPOLOGY_INVALID, "roles")}
    call = {"role": name, "port": 1}
    assert _refused(changed("roles.web.calls", [call])) == {
        (Reason.TOPOLOGY_INVALID, "roles.web.calls[0].role")
    }


@pytest.mark.parametrize("name", ["a", "a" * 40, "0", "-", "web-1"])
def test_T7_names_of_the_charset_are_accepted(name: str) -> None:
    assert list(parse_topology(payload(document(mesh=name, roles={name: role()}))).roles) == [name]


@pytest.mark.parametrize("version", [0, MAX_VERSION])
def test_T6_versions_are_bounded(version: int) -> None:
    if version:
        assert parse_topology(payload(document(version=version))).version == version
    else:
        _invalid("version", version)


@pytest.mark.parametrize("number", ["9007199254740992", "18446744073709551615", "-0", "1e3", "3.0", "03"])
def test_T6_versions_that_are_no_exact_integers_are_refused(number: str) -> None:
    text = payload().replace(b'"version":3', f'"version":{number}'.encode())
    assert refusals(lambda: parse_topology(text)) == {(Reason.MALFORMED, "topology")}


@pytest.mark.parametrize(
    ("path", "values"),
    [
        ("issued_at", [0, 253_402_300_800]),
        ("attestation_port", [0, 65_536]),
        ("roles.web.replicas.min", [-1, 1001]),
        ("roles.web.replicas.max", [0, 1001]),
        ("tdx.min_tcb_evaluation", [0, 1 << 31]),
        ("timers.view_ms", [49, 600_001]),
        ("timers.quote_ms", [999, 600_001]),
        ("timers.ping_ms", [99, 60_001]),
        ("timers.attempt_ms", [999, 3_600_001]),
        ("timers.heartbeat_ms", [99, 60_001]),
        ("timers.lease_ms", [999, 600_001]),
        ("timers.reattest_ms", [4_999, 604_800_001]),
        ("timers.quorum_ms", [999, 604_800_001]),
        ("timers.leaf_lifetime_ms", [9_999, 2_592_000_001]),
    ],
)
def test_numbers_are_bounded(path: str, values: list[int]) -> None:
    for value in values:
        assert _refused(changed(path, value, document(timers={}))) == {(Reason.TOPOLOGY_INVALID, path)}


def test_what_follows_the_loss_of_the_majority_is_one_of_two_words() -> None:
    assert parse_topology(payload(document())).on_quorum_loss == "regenesis"
    for word in ("regenesis", "halt"):
        assert parse_topology(payload(document(on_quorum_loss=word))).on_quorum_loss == word
    _invalid("on_quorum_loss", "wait")


@pytest.mark.parametrize("size", [47, 49, 0])
@pytest.mark.parametrize(
    "name", ["mrtd", "rtmr0", "rtmr1", "rtmr2", "rtmr3", "mrconfigid", "mrowner", "mrownerconfig"]
)
def test_digests_of_another_size_are_refused(name: str, size: int) -> None:
    _invalid(f"roles.web.tdx.0.{name}", "ab" * size)


@pytest.mark.parametrize(
    "text", ["AB" * 48, "0x" + "ab" * 47, " " + "ab" * 48, "ab" * 47 + "a\n", "à" * 96, "\u0660" * 96]
)
def test_digests_have_one_spelling(text: str) -> None:
    _invalid("roles.web.tdx.0.mrtd", text)


@pytest.mark.parametrize("name", ["mrtd", "mrconfigid", "mrowner", "mrownerconfig", "td_attributes", "xfam"])
def test_any_is_refused_where_it_would_mean_no_check(name: str) -> None:
    _invalid(f"roles.web.tdx.0.{name}", "any")


def test_a_list_under_any_names_the_element() -> None:
    _invalid("roles.web.platforms", [])
    assert _refused(changed("roles.web.platforms", {"tdx": ["00" * 16, "00"]})) == {
        (Reason.TOPOLOGY_INVALID, "roles.web.platforms.tdx[1]")
    }
    with pytest.raises(TopologyError, match='"any", or a list of 1 to 4096 PPIDs'):
        parse_topology(payload(changed("roles.web.platforms", {"tdx": []})))


@pytest.mark.parametrize("status", ["Revoked", "uptodate", "UPTODATE", "UpToDate ", "OK", ""])
def test_tcb_statuses_are_a_closed_list_without_revoked(status: str) -> None:
    assert _refused(changed("tdx.tcb_status", ["UpToDate", status])) == {
        (Reason.TOPOLOGY_INVALID, "tdx.tcb_status[1]")
    }


def test_every_admissible_status_can_be_listed_and_none_may_be_left_out() -> None:
    topology = parse_topology(payload(changed("tdx.tcb_status", list(TCB_STATUSES))))
    assert topology.tdx is not None and topology.tdx.tcb_status == set(TCB_STATUSES)
    _invalid("tdx.tcb_status", [])


@pytest.mark.parametrize("text", ["INTEL-SA-1", "INTEL-SA-000001", "intel-sa-00001", "*", "any"])
def test_advisories_are_named_in_full(text: str) -> None:
    assert _refused(changed("tdx.advisories", [text])) == {(Reason.TOPOLOGY_INVALID, "tdx.advisories[0]")}


@pytest.mark.parametrize(
    ("path", "twice"),
    [
        ("roles.web.serves", 8080),
        ("roles.web.calls", {"role": "db", "port": 6379}),
        ("roles.web.ingress", {"port": 8443, "target": 8080}),
        ("roles.web.tdx", reference()),
        ("tdx.tcb_status", "UpToDate"),
        ("tdx.advisories", "INTEL-SA-00001"),
    ],
)
def test_no_list_holds_a_value_twice(path: str, twice: Any) -> None:
    assert _refused(changed(path, [twice, twice])) == {(Reason.TOPOLOGY_INVALID, f"{path}[1]")}


@pytest.mark.parametrize(
    ("path", "values"),
    [
        ("roles", {f"r{i}": role(i) for i in range(257)}),
        ("roles", {}),
        ("roles.web.serves", list(range(1, 66))),
        ("roles.web.calls", [{"role": "db", "port": port} for port in range(1, 258)]),
        ("roles.web.ingress", [{"port": port, "target": 8080} for port in range(1, 66)]),
        ("roles.web.tdx", [reference(i) for i in range(65)]),
        ("roles.web.tdx", []),
        ("tdx.advisories", [f"INTEL-SA-{i:05}" for i in range(257)]),
    ],
)
def test_T8_every_list_is_bounded(path: str, values: object) -> None:
    _invalid(path, values)


def test_T8_a_role_without_a_reference_is_refused() -> None:
    _invalid("roles.web.tdx", [])


def test_T8_size_and_depth_are_bounded() -> None:
    assert refusals(lambda: parse_topology(b" " * (MAX_TOPOLOGY_SIZE + 1))) == {
        (Reason.TOO_LARGE, "topology")
    }
    deep: Any = 1
    for _ in range(17):
        deep = [deep]
    assert _refused(deep) == {(Reason.TOO_LARGE, "topology")}
    many = {f"r{i}": 0 for i in range(60_000)}
    assert _refused(document(roles=many)) == {(Reason.TOPOLOGY_INVALID, "roles")}


@pytest.mark.parametrize("value", [[], "shop", 1, None, True])
def test_a_payload_that_is_no_object_is_refused(value: object) -> None:
    if value is not None:
        assert _refused(value) == {(Reason.TOPOLOGY_INVALID, "topology")}
    else:
        assert refusals(lambda: parse_topology(b"null")) == {(Reason.TOPOLOGY_INVALID, "topology")}


@pytest.mark.parametrize("text", [payload() + b"\n", payload().replace(b",", b", ", 1), b" " + payload()])
def test_T3_only_the_canonical_bytes_are_a_payload(text: bytes) -> None:
    assert refusals(lambda: parse_topology(text)) == {(Reason.NOT_CANONICAL, "topology")}


@pytest.mark.parametrize(
    ("once", "twice"),
    [
        (b'"mesh":"shop"', b'"mesh":"evil","mesh":"shop"'),
        (b'"mesh":"shop"', b'"mesh":"shop","mesh":"evil"'),
        (b'"max":1', b'"max":1,"max":900'),
        (b'"port":6379', b'"port":6379,"port":6379'),
    ],
)
def test_T1_keys_twice_are_refused_whichever_reading_would_be_valid(once: bytes, twice: bytes) -> None:
    text = payload().replace(once, twice)
    assert refusals(lambda: parse_topology(text)) == {(Reason.MALFORMED, "topology")}


def test_every_mismatch_is_reported_at_once() -> None:
    value = changed("mesh", "UPPER")
    changed("roles.web.serves", [0, 70_000], value)
    changed("roles.db.xfam", "00", value)
    changed("tdx.tcb_status", ["Revoked"], value)
    assert _refused(value) == {
        (Reason.TOPOLOGY_INVALID, field)
        for field in (
            "mesh",
            "roles.web.serves[0]",
            "roles.web.serves[1]",
            "roles.db.xfam",
            "tdx.tcb_status[0]",
        )
    }


def test_a_refusal_has_a_bounded_number_of_mismatches() -> None:
    with pytest.raises(TopologyError) as caught:
        parse_topology(payload(changed("roles.web.platforms", {"tdx": ["x"] * 4096})))
    assert len(caught.value.mismatches) == MAX_MISMATCHES


def test_C2_an_unknown_field_cannot_write_to_the_terminal() -> None:
    with pytest.raises(TopologyError) as caught:
        parse_topology(payload(document(**{"\x1b[2J\u202e\n": 1})))
    assert str(caught.value).isprintable() and str(caught.value).isascii()
