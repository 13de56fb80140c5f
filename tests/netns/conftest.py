"""Fixtures of the tests that need root: pods in network namespaces."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.envoy import state_directory

if os.geteuid() == 0:
    from toposeal_lab.pods import Node, Pod


@pytest.fixture
def node() -> Iterator[Node]:
    """A node of this test's own; its pods end with it."""
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    with Node() as made:
        yield made


@pytest.fixture
def state() -> Iterator[Path]:
    """What a daemon keeps for its Envoy, on a real tmpfs."""
    with state_directory() as path:
        yield path


@pytest.fixture
def pods(node: Node) -> tuple[Pod, Pod]:
    """Two pods, `a` and `b`, on one bridge and without any rules."""
    return node.pod("a"), node.pod("b")
