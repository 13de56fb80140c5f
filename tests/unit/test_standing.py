"""outside.standing: whom connections may lead to, and until when."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
from support.meshes import build_mesh

from toposeal.errors import EvidenceError, NetworkError, PolicyError, Reason, ToposealError, UsageError
from toposeal.limits import CONNECT_GRACE, CONNECT_RETRY
from toposeal.outside.model import VerifiedMesh
from toposeal.outside.standing import Standing, after, failed, first
from toposeal.outside.verify import verify_document

START, INTERVAL = 1000.0, 60.0
GRACE_S, RETRY_S = CONNECT_GRACE / 1000, CONNECT_RETRY / 1000


@cache
def verified() -> VerifiedMesh:
    mesh = build_mesh()
    return verify_document(mesh.document(), mesh.request())


def opened(**ingress: tuple[int, ...]) -> VerifiedMesh:
    """The mesh where these roles open these ports to the outside."""
    members = [replace(member, ingress=ingress.get(member.role, ())) for member in verified().members]
    return replace(verified(), members=tuple(members))


def standing(mesh: VerifiedMesh | None = None, port: int = 8443, role: str | None = None) -> Standing:
    return first(mesh or verified(), port, role, START, INTERVAL)


def test_connections_lead_to_the_role_that_opens_the_port_until_the_interval_and_its_grace_are_over() -> None:
    found = standing()
    (web,) = (member for member in verified().members if member.role == "web")
    (api, *_) = (member for member in verified().members if member.role == "api")
    assert (found.role, dict(found.members)) == ("web", {web.iid: web})
    assert found.due == START + INTERVAL
    end = START + INTERVAL + GRACE_S
    assert found.takes(end - 1) and found.admits(web.iid, end - 1)
    assert not found.takes(end) and not found.admits(web.iid, end)
    assert not found.admits(api.iid, START)


@pytest.mark.parametrize(
    ("ingress", "port", "role", "found"),
    [
        ({"web": (8443,)}, 443, None, "web"),  # behind another port, and the only one
        ({"web": (8443,), "api": (9443,)}, 9443, None, "api"),
        ({"web": (8443,), "api": (9443,)}, 9443, "web", "web"),
    ],
)
def test_the_role_is_named_or_follows_from_the_port(
    ingress: dict[str, tuple[int, ...]], port: int, role: str | None, found: str
) -> None:
    assert standing(opened(**ingress), port, role).role == found


@pytest.mark.parametrize(
    ("ingress", "port", "role"),
    [
        ({}, 8443, None),
        ({"web": (8443,), "api": (9443,)}, 443, None),
        ({"web": (8443,), "api": (8443,)}, 8443, None),
        ({"web": (8443,)}, 8443, "db"),
        ({"web": (8443,)}, 8443, "nobody"),
    ],
)
def test_what_is_not_one_role_that_is_open_is_a_usage_error(
    ingress: dict[str, tuple[int, ...]], port: int, role: str | None
) -> None:
    with pytest.raises(UsageError) as caught:
        standing(opened(**ingress), port, role)
    assert caught.value.mismatches[0].field == "--role"


def test_a_later_verification_takes_the_place_of_the_one_before() -> None:
    gone = replace(verified(), epoch=2, members=verified().members[:3])  # no web any more
    found = after(standing(), gone, START + 60, INTERVAL)
    assert (found.mesh, dict(found.members), found.role) == (gone, {}, "web")
    assert found.until == START + 60 + INTERVAL + GRACE_S
    assert not found.takes(START + 61)  # there is nobody to lead to
    assert after(found, replace(verified(), epoch=3), START + 70, INTERVAL).members == standing().members


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"epoch": 1}, Reason.EPOCH_ROLLBACK),
        ({"topology_version": 2}, Reason.TOPOLOGY_ROLLBACK),
        ({"lineage": bytes(48)}, Reason.LINEAGE_CHANGED),
    ],
)
def test_V6_numbers_never_fall_and_the_lineage_stays(changes: dict[str, object], reason: Reason) -> None:
    before = standing(replace(verified(), epoch=2))
    with pytest.raises(PolicyError) as caught:
        after(before, replace(verified(), **{"epoch": 2, **changes}), START + 1, INTERVAL)  # type: ignore[arg-type]
    assert caught.value.reason is reason


@pytest.mark.parametrize(
    ("error", "kept"),
    [
        (NetworkError.of(Reason.NETWORK, "connection", "refused", "an answer"), True),
        (PolicyError.of(Reason.TCB_STATUS, "tcb", "OutOfDate", "UpToDate"), False),
        (EvidenceError.of(Reason.REVOKED, "pck", "revoked", "a certificate in force"), False),
    ],
)
def test_a_failure_admits_nothing_new_and_a_refusal_nothing_at_all(error: ToposealError, kept: bool) -> None:
    before = standing()
    (iid,) = before.members
    found = failed(before, error, START + 7)
    assert not found.takes(START + 7)
    assert found.admits(iid, START + 7) == kept
    assert not found.admits(iid, before.until)  # silence is no reason to go on for longer
    assert found.due == START + 7 + RETRY_S
    assert after(found, verified(), START + 8, INTERVAL).takes(START + 8)
