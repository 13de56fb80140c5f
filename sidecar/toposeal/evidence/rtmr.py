"""TDX run-time measurement registers: what toposeal extends into RTMR[3], and replay. No IO.

Spec: Intel TDX Module Base Architecture Specification, TDG.MR.RTMR.EXTEND; the event is
PROTOCOL.md's, written with `encoding.digest`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from toposeal import encoding, limits
from toposeal.errors import EvidenceError, Reason

REGISTERS = 4
ZERO = bytes(limits.DIGEST_SIZE)  # every register at the start of the trust domain

_TAG = "toposeal/v1/rtmr3"


def instance_event(iid: bytes) -> bytes:
    """The 48-byte digest with which a member extends RTMR[3] once: `H(tag | LP(iid))`.

    `iid` is its instance id, 48 bytes. Raises EvidenceError (MALFORMED) for any other length.
    """
    return encoding.digest(_TAG, _sized("iid", iid))


def extend(register: bytes, event: bytes) -> bytes:
    """The register's 48 bytes after one extension: SHA-384 of `register | event`, 48 bytes each.

    Raises EvidenceError (MALFORMED) for any other length.
    """
    return hashlib.sha384(_sized("register", register) + _sized("event", event)).digest()


def replay(base: bytes, events: Iterable[bytes]) -> bytes:
    """The register after `events`, in order, from `base`. Sizes and errors as in `extend`."""
    register = _sized("register", base)
    for event in events:
        register = extend(register, event)
    return register


def _sized(field: str, value: bytes) -> bytes:
    if len(value) != limits.DIGEST_SIZE:
        raise EvidenceError.of(
            Reason.MALFORMED, f"rtmr.{field}", f"{len(value)} bytes", f"{limits.DIGEST_SIZE} bytes"
        )
    return value
