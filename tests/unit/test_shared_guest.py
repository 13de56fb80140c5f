"""Two pods in one confidential VM are refused where evidence can tell."""

from __future__ import annotations

import pytest
from support.tdx import refusal

from toposeal.errors import PolicyError, Reason
from toposeal.verification.shared_guest import refuse_shared_gpus, refuse_shared_guests

ONE, OTHER = bytes([1] * 32), bytes([2] * 32)


def test_members_in_guests_of_their_own_pass() -> None:
    refuse_shared_guests([("web-0", ONE), ("web-1", OTHER)])
    refuse_shared_guests([])


def test_two_members_in_one_guest_are_refused_by_name() -> None:
    with pytest.raises(PolicyError) as refused:
        refuse_shared_guests([("web-0", ONE), ("db-0", OTHER), ("web-1", ONE)])
    assert refused.value.reason is Reason.SHARED_CVM
    assert refused.value.mismatches[0].field == "members.web-1"
    assert "as web-0" in str(refused.value)


def test_evidence_without_an_identity_of_the_guest_tells_nothing() -> None:
    """TDX: two members without one are not thereby the same guest."""
    refuse_shared_guests([("web-0", None), ("web-1", None), ("db-0", ONE)])


def test_one_member_counted_twice_is_one_member() -> None:
    refuse_shared_guests([("web-0", ONE), ("web-0", ONE)])
    assert refusal(refuse_shared_guests, [("web-0", ONE), ("web-00", ONE)]) is Reason.SHARED_CVM


def test_two_members_with_one_gpu_are_refused_by_name() -> None:
    refuse_shared_gpus([("web-0", b"a"), ("web-0", b"b"), ("web-1", b"c")])
    with pytest.raises(PolicyError) as refused:
        refuse_shared_gpus([("web-0", b"a"), ("web-1", b"b"), ("web-2", b"a")])
    assert refused.value.reason is Reason.GPU_DUPLICATE
    assert refused.value.mismatches[0].field == "members.web-2.gpus"
