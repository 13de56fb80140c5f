"""Reads the relying party's own collateral: a JSON array of dcap-qvl QuoteCollateralV3 objects."""

from __future__ import annotations

import json

from toposeal.errors import Reason, UsageError, printable
from toposeal.evidence.collateral import parse_collateral
from toposeal.host.files import read_once
from toposeal.limits import MAX_COLLATERAL_ENTRIES, MAX_COLLATERAL_SIZE


def load_collateral(path: str) -> tuple[bytes, ...]:
    """The objects of the array, each as JSON bytes whose form was checked; one per FMSPC is used.

    Raises UsageError or EvidenceError(COLLATERAL_INVALID). Nothing in it is trusted for being here.
    """
    data = read_once(path, MAX_COLLATERAL_ENTRIES * MAX_COLLATERAL_SIZE)
    try:
        entries = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UsageError.of(Reason.MALFORMED, printable(path), error, "a JSON array") from error
    if not isinstance(entries, list) or not 1 <= len(entries) <= MAX_COLLATERAL_ENTRIES:
        raise UsageError.of(
            Reason.MALFORMED, printable(path), "no such array", f"1 to {MAX_COLLATERAL_ENTRIES} objects"
        )
    collateral = tuple(json.dumps(entry).encode("ascii") for entry in entries)
    for entry in collateral:
        parse_collateral(entry)
    return collateral
