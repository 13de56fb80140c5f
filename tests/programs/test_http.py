"""curl and nginx: pages, kept connections, a gibibyte down and up."""

from __future__ import annotations

import hashlib

import pytest
from support.conversations import HTTP
from support.programs import LARGE, NGINX, Place


@pytest.fixture(scope="module")
def checksum() -> str:
    digest = hashlib.sha256()
    for _ in range(LARGE >> 20):
        digest.update(bytes(1 << 20))
    return digest.hexdigest()


def test_a_page(place: Place) -> None:
    assert place.run("curl", "-sS", f"http://{place.host}:{NGINX}/") == "hello\n"


def test_a_hundred_pages_over_one_connection(place: Place) -> None:
    urls = [f"http://{place.host}:{NGINX}/"] * 100
    said = place.run("curl", "-sS", "-w", "%{num_connects} ", *urls)
    assert sum(map(int, said.replace("hello\n", "").split())) == 1
    assert said.count("hello") == 100


def test_a_gibibyte_down(place: Place, checksum: str) -> None:
    url = f"http://{place.host}:{NGINX}/files/large"
    said = place.run("bash", "-c", f"set -o pipefail; curl -sS {url} | sha256sum", timeout_s=300)
    assert said.split()[0] == checksum


def test_a_gibibyte_up(place: Place, checksum: str) -> None:
    """With `Expect: 100-continue`, as curl does of itself."""
    file = str(place.directory / "files" / "large")
    said = place.run("curl", "-sS", "-T", file, f"http://{place.host}:{HTTP}/", timeout_s=300)
    assert said == checksum


def test_a_download_that_is_cut_short_and_resumed(place: Place) -> None:
    url = f"http://{place.host}:{NGINX}/files/large"
    said = place.run(
        "curl", "-sS", "-r", f"{LARGE - 1000}-", "-o", "/dev/null", "-w", "%{size_download}", url
    )
    assert said == "1000"
