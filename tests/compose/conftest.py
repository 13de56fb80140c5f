"""One engine for all tests of this folder: the lab image is built once."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest
from support.engine import Engine, engine


@pytest.fixture(scope="session")
def docker_engine() -> Iterator[Engine]:
    """An engine with the base image, and nothing that runs."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    for program in ("dockerd", "docker", "mmdebstrap"):
        if shutil.which(program) is None:
            pytest.skip(f"needs {program}: make compose-test installs it")
    with engine() as made:
        yield made
