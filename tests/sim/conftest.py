"""How many seeds: `pytest tests/sim --seeds 5000`; without it, what CI's minute allows."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seeds", type=int, metavar="N", help="simulate N stories instead of CI's few")
    parser.addoption(
        "--first-seed", type=int, metavar="N", help="the first of them; to repeat one: --seeds 1"
    )
