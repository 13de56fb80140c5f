"""Collateral that a stranger carries: used only where its signer, its dates and the marks allow. No IO."""

from __future__ import annotations

import json
from collections.abc import Sequence

from toposeal.errors import EvidenceError
from toposeal.evidence.amd_x509 import parse_amd_crl
from toposeal.evidence.collateral import parse_collateral
from toposeal.limits import MAX_COLLATERAL_ENTRIES
from toposeal.verification.collateral_authentic import authenticate_collateral, list_age, root_of_list
from toposeal.verification.high_water import Marks
from toposeal.verification.model import TrustAnchors


def accept_stapled(
    entries: Sequence[bytes], anchors: TrustAnchors, marks: Marks, now: int
) -> tuple[bytes, ...]:
    """Those of `entries` that the vendor signed, that are in force at `now` (Unix seconds) and that are not
    older than `marks`. The marks stay as they are.

    What is left out is missing, never skipped: a quote without collateral is refused. Entries beyond
    MAX_COLLATERAL_ENTRIES are not looked at. Raises EvidenceError, that of the first entry, where none of
    one or more is left.
    """
    accepted: list[bytes] = []
    refusals: list[EvidenceError] = []
    for entry in entries[:MAX_COLLATERAL_ENTRIES]:
        try:
            marks.check(authenticate_collateral(entry, anchors, now))
            accepted.append(entry)
        except EvidenceError as refusal:
            refusals.append(refusal)
    if refusals and not accepted:
        raise refusals[0]
    return tuple(accepted)


def accept_stapled_lists(lists: Sequence[bytes], anchors: TrustAnchors) -> tuple[bytes, ...]:
    """Those of AMD's `lists` (DER) that a pinned root signed; whether they are in force is judged with
    evidence.

    The others are as if they had not been carried: who carries lists can leave out any, and must not
    have the evidence of others refused by what is none.
    """
    return tuple(der for der in lists if _is_signed(der, anchors))


def _is_signed(der: bytes, anchors: TrustAnchors) -> bool:
    try:
        root_of_list(parse_amd_crl(der), anchors)
    except EvidenceError:
        return False
    return True


def with_newest_lists(entries: Sequence[bytes]) -> tuple[bytes, ...]:
    """The same authentic entries, each with the newest list of its issuers that any of them carries.

    Platform families share their issuers' lists but are fetched at different times; without this, the
    newest list would have the older entries refused. Lists are separate members: no signed byte changes.
    """
    newest: dict[tuple[str, bytes], tuple[int, int, str]] = {}
    opened = []
    for entry in entries:
        parsed, parts = parse_collateral(entry), json.loads(entry)
        names = {
            "pck_crl": ("pck_crl", parsed.pck_crl_chain[0].der),
            "root_ca_crl": ("root_ca_crl", parsed.pck_crl_chain[-1].der),
        }
        opened.append((parts, names))
        for member, name in names.items():
            age = list_age(getattr(parsed, member).x509, f"collateral.{member}")
            found = (age.number, age.issued, parts[member])
            newest[name] = max(found, newest.get(name, found))
    return tuple(
        json.dumps(parts | {member: newest[name][2] for member, name in names.items()}).encode("ascii")
        for parts, names in opened
    )
