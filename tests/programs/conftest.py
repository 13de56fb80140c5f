"""Both places of every test: two plain pods, which say how programs behave, and two of a sealed mesh."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.daemons import ready
from support.programs import Place, direct, sealed, start_all


@pytest.fixture(scope="session")
def places() -> Iterator[dict[str, Place]]:
    ready()
    with direct() as plain, sealed() as ours:
        for place in (plain, ours):
            start_all(place)
        yield {"direct": plain, "sealed": ours}


@pytest.fixture(params=["direct", "sealed"])
def place(places: dict[str, Place], request: pytest.FixtureRequest) -> Place:
    return places[request.param]
