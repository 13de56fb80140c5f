"""How many seeds: `pytest tests/sim --seeds 10000`; without it, what CI has time for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from toposeal_lab.simulation.keys import symbolic_signatures


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seeds", type=int, metavar="N", help="simulate N stories instead of CI's")
    parser.addoption(
        "--first-seed", type=int, metavar="N", help="the first of them; to repeat one: --seeds 1"
    )


@pytest.fixture
def symbolic() -> Iterator[None]:
    """Signatures as in `toposeal-lab simulate`."""
    with symbolic_signatures():
        yield
