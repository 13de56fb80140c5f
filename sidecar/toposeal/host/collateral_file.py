"""Reads the caller's own collateral: a JSON array of dcap-qvl QuoteCollateralV3 objects."""

from __future__ import annotations

import json

from toposeal.errors import EvidenceError, Reason, TopologyError, UsageError
from toposeal.evidence.collateral import parse_collateral
from toposeal.host.files import read_once
from toposeal.limits import MAX_COLLATERAL_ENTRIES, MAX_COLLATERAL_SIZE
from toposeal.topology import strict_json


def read_collateral(path: str) -> tuple[bytes, ...]:
    """Each entry as JSON bytes, checked for form; signer, signatures and dates are appraised with a quote.

    Taking the array apart changes no signed byte: those are strings inside each entry. Raises UsageError.
    """
    limit = MAX_COLLATERAL_ENTRIES * MAX_COLLATERAL_SIZE
    try:
        entries = strict_json.parse(read_once(path, limit), "collateral", limit)
        if not isinstance(entries, list) or not 1 <= len(entries) <= MAX_COLLATERAL_ENTRIES:
            expected = f"an array of 1 to {MAX_COLLATERAL_ENTRIES} objects"
            raise UsageError.of(Reason.USAGE, "collateral", type(entries).__name__, expected)
        documents = tuple(json.dumps(entry).encode("ascii") for entry in entries)
        for document in documents:
            parse_collateral(document)
    except (TopologyError, EvidenceError) as error:  # the caller's file, so the caller's fault
        raise UsageError(*error.mismatches) from error
    return documents
