"""The tree over nonces: RFC 6962's hashes, paths of every leaf, and nothing else that leads to a root."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toposeal.errors import Reason, RemoteProtocolError
from toposeal.evidence import nonce_tree
from toposeal.evidence.nonce_tree import audit_path, root_of, tree_root
from toposeal.limits import MAX_LIVE_NONCES


def nonces(count: int) -> tuple[bytes, ...]:
    return tuple(number.to_bytes(32, "big") for number in range(1, count + 1))


def leaf(nonce: bytes) -> bytes:
    return hashlib.sha256(b"\0" + nonce).digest()


def node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\1" + left + right).digest()


def test_the_tree_is_that_of_rfc_6962() -> None:
    """The example of its section 2.1.3: seven leaves, the fourth in a path of three."""
    a, b, c, d, e, f, g = (leaf(nonce) for nonce in nonces(7))
    left, right = node(node(a, b), node(c, d)), node(node(e, f), g)
    assert tree_root(nonces(7)) == node(left, right)
    assert audit_path(3, nonces(7)) == (c, node(a, b), right)
    assert audit_path(6, nonces(7)) == (node(e, f), left)
    assert tree_root(nonces(1)) == a and audit_path(0, nonces(1)) == ()


@given(st.integers(1, 70), st.data())
def test_every_leaf_leads_to_the_root_and_no_other_nonce_does(size: int, data: st.DataObject) -> None:
    leaves = nonces(size)
    index = data.draw(st.integers(0, size - 1))
    path = audit_path(index, leaves)
    assert root_of(leaves[index], index, size, path) == tree_root(leaves)
    assert root_of(bytes(32), index, size, path) != tree_root(leaves)


def test_the_largest_window_needs_ten_hashes() -> None:
    leaves = nonces(MAX_LIVE_NONCES)
    assert len(audit_path(0, leaves)) == 10
    assert root_of(leaves[-1], MAX_LIVE_NONCES - 1, MAX_LIVE_NONCES, audit_path(1023, leaves)) == tree_root(
        leaves
    )


def test_V10_all_paths_of_a_window_cost_one_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    """Strangers fill windows, and the daemon makes their documents on its event loop."""
    hashed = 0

    def counted(left: bytes, right: bytes) -> bytes:
        nonlocal hashed
        hashed += 1
        return node(left, right)

    monkeypatch.setattr(nonce_tree, "_node", counted)
    leaves = tuple(hashlib.sha256(each).digest() for each in nonces(MAX_LIVE_NONCES))
    root = tree_root(leaves)
    for index in range(0, MAX_LIVE_NONCES, 8):
        assert tree_root(leaves) == root and len(audit_path(index, leaves)) == 10
    assert hashed == MAX_LIVE_NONCES - 1


def test_V1_a_node_is_no_leaf() -> None:
    """Else whoever knows a node of a tree could show it for a nonce that nobody asked with."""
    four = nonces(4)
    inner = node(leaf(four[0]), leaf(four[1]))
    assert root_of(inner, 0, 2, (node(leaf(four[2]), leaf(four[3])),)) != tree_root(four)


@pytest.mark.parametrize(
    ("index", "size", "path"),
    [
        (0, 0, ()),
        (1, 1, ()),
        (-1, 1, ()),
        (0, MAX_LIVE_NONCES + 1, (bytes(32),) * 11),
        (0, 2**32 - 1, (bytes(32),) * 32),
        (0, 1, (bytes(32),)),
        (0, 2, ()),
        (0, 2, (bytes(31),)),
        (6, 7, (bytes(32),) * 3),
    ],
)
def test_E14_a_path_that_no_such_tree_has_is_refused(index: int, size: int, path: tuple[bytes, ...]) -> None:
    with pytest.raises(RemoteProtocolError) as refused:
        root_of(bytes(32), index, size, path)
    assert refused.value.reason is Reason.MALFORMED


@pytest.mark.parametrize("count", [0, MAX_LIVE_NONCES + 1])
def test_there_is_no_tree_of_nothing_and_none_without_bounds(count: int) -> None:
    with pytest.raises(ValueError, match="leaves"):
        tree_root(nonces(count))
