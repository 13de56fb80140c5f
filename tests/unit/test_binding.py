"""report_data commits to every field of the binding, and quotes of two purposes never agree."""

from __future__ import annotations

import hashlib
from dataclasses import fields, replace
from itertools import permutations
from typing import Any

import pytest
from support.tdx import BINDING

from toposeal.evidence.binding import (
    ZERO_DIGEST,
    ZERO_NONCE,
    Binding,
    Purpose,
    Status,
    join_binding,
    live_binding,
    seal_binding,
)

OTHER: dict[str, Any] = {
    "purpose": Purpose.LIVE,
    "epoch": 2,
    "role": "db",
    "challenge": b"c" * 32,
    "status": Status.ACTIVE,
}


def test_the_transcript_is_the_documented_one() -> None:
    """PROTOCOL.md 2.4, byte by byte."""
    transcript = (
        b"toposeal/v1/rd\x02"
        + b"m" * 48
        + b"t" * 48
        + b"\0\0\0\0\0\0\0\x01"
        + b"d" * 48
        + b"\0\0\0\x03web"
        + b"i" * 48
        + b"h" * 48
        + bytes(32)
        + b"\x01"
    )
    assert BINDING.report_data() == hashlib.sha512(transcript).digest()


@pytest.mark.parametrize("name", [field.name for field in fields(Binding)])
def test_every_field_changes_report_data(name: str) -> None:
    change: dict[str, Any] = {name: OTHER.get(name, b"x" * 48)}
    changed = replace(BINDING, **change)
    assert changed.report_data() != BINDING.report_data()


@pytest.mark.parametrize(("made", "expected"), list(permutations(Purpose, 2)))
def test_E3_no_two_purposes_share_report_data(made: Purpose, expected: Purpose) -> None:
    assert replace(BINDING, purpose=made).report_data() != replace(BINDING, purpose=expected).report_data()


@pytest.mark.parametrize(
    ("name", "size"),
    [(name, size) for name in ("mesh_id", "manifest_digest", "iid", "anchor") for size in (0, 47, 49)]
    + [("topology_digest", 32), ("challenge", 0), ("challenge", 31), ("challenge", 33)],
)
def test_a_field_of_another_size_is_refused(name: str, size: int) -> None:
    change: dict[str, Any] = {name: bytes(size)}
    with pytest.raises(ValueError, match="48 bytes"):
        replace(BINDING, **change).report_data()


def test_an_epoch_beyond_64_bits_is_refused() -> None:
    with pytest.raises(OverflowError):
        replace(BINDING, epoch=1 << 64).report_data()


def test_join_binds_the_identity_alone() -> None:
    join = join_binding(b"m" * 48, "web", b"i" * 48, b"a" * 48)
    assert (join.purpose, join.status, join.epoch) == (Purpose.JOIN, Status.NONE, 0)
    assert join.topology_digest == join.manifest_digest == ZERO_DIGEST
    assert join.challenge == ZERO_NONCE


def test_live_is_the_seal_with_a_challenge_and_active() -> None:
    seal = seal_binding(b"m" * 48, b"t" * 48, 1, b"d" * 48, "web", b"i" * 48, b"h" * 48)
    assert seal == BINDING
    live = live_binding(seal, b"c" * 32)
    assert live == replace(seal, purpose=Purpose.LIVE, challenge=b"c" * 32, status=Status.ACTIVE)
