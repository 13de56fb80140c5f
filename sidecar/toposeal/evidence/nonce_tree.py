"""A tree over outside verifiers' nonces, so that one LIVE quote answers all of a window. No IO.

RFC 6962, 2.1: Merkle Hash Trees with SHA-256. Leaves are nonces of 32 bytes; whoever has one finds it, by a
path of at most ten hashes, in the one root that the quote is made for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache

from toposeal.errors import Reason, RemoteProtocolError
from toposeal.limits import MAX_LIVE_NONCES, NONCE_SIZE

_LEAF, _NODE = b"\0", b"\1"


def tree_root(nonces: Sequence[bytes]) -> bytes:
    """MTH, 32 bytes, of 1 to MAX_LIVE_NONCES nonces. Raises ValueError for another number."""
    if not 1 <= len(nonces) <= MAX_LIVE_NONCES:
        raise ValueError(f"a tree has 1 to {MAX_LIVE_NONCES} leaves")
    return _root(tuple(nonces))


def audit_path(index: int, nonces: Sequence[bytes]) -> tuple[bytes, ...]:
    """PATH (RFC 6962, 2.1.1): what leaf `index` is combined with on the way to the root, 32 bytes each."""
    return _path(index, tuple(nonces))


def root_of(nonce: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes:
    """The root of the tree of `size` leaves in which `nonce` is number `index` (from 0), by its path.

    Raises RemoteProtocolError(MALFORMED) for a path that no such tree has.
    """
    if not 0 <= index < size <= MAX_LIVE_NONCES:
        raise _malformed("live.leaf", f"{index} of {size}", f"below the size, at most {MAX_LIVE_NONCES}")
    sides = list(_sides(index, size))
    if len(path) != len(sides) or any(len(each) != NONCE_SIZE for each in path):
        raise _malformed("live.path", f"{len(path)} hashes", f"{len(sides)} of {NONCE_SIZE} bytes")
    root = _leaf(nonce)
    for sibling, is_left in zip(path, reversed(sides), strict=True):
        root = _node(sibling, root) if is_left else _node(root, sibling)
    return root


@lru_cache(2 * MAX_LIVE_NONCES)
def _root(nonces: tuple[bytes, ...]) -> bytes:
    """Of a tree or a part of one, remembered: the documents of one window have all of them in common."""
    if len(nonces) == 1:
        return _leaf(nonces[0])
    split = _split(len(nonces))
    return _node(_root(nonces[:split]), _root(nonces[split:]))


def _path(index: int, nonces: tuple[bytes, ...]) -> tuple[bytes, ...]:
    if len(nonces) == 1:
        return ()
    split = _split(len(nonces))
    if index < split:
        return (*_path(index, nonces[:split]), _root(nonces[split:]))
    return (*_path(index - split, nonces[split:]), _root(nonces[:split]))


def _sides(index: int, size: int) -> Sequence[bool]:
    """From the root down: whether the sibling on each level is the left one."""
    if size == 1:
        return ()
    split = _split(size)
    if index < split:
        return (False, *_sides(index, split))
    return (True, *_sides(index - split, size - split))


def _split(size: int) -> int:
    """The largest power of two below `size`."""
    power: int = 1 << ((size - 1).bit_length() - 1)
    return power


def _leaf(nonce: bytes) -> bytes:
    return hashlib.sha256(_LEAF + nonce).digest()


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(_NODE + left + right).digest()


def _malformed(field: str, found: str, expected: str) -> RemoteProtocolError:
    return RemoteProtocolError.of(Reason.MALFORMED, field, found, expected)
