"""The certificate table that a simulated host hands to its guest (AMD 56421), well-formed or not."""

from __future__ import annotations

import struct
from collections.abc import Sequence

ENTRY_SIZE = 24


def certificate_table(blobs: Sequence[tuple[bytes, bytes]], gap: int = 0) -> bytes:
    """Entries of (GUID of 16 bytes, blob), each blob after `gap` zero bytes, in the order given."""
    offset = (len(blobs) + 1) * ENTRY_SIZE
    entries = body = b""
    for guid, blob in blobs:
        offset += gap
        entries += guid + struct.pack("<II", offset, len(blob))
        body += bytes(gap) + blob
        offset += len(blob)
    return entries + bytes(ENTRY_SIZE) + body
