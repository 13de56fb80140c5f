"""Random bytes: a generator that repeats itself or fails is noticed, and a million values are a million."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable

import pytest

from toposeal.errors import PodError, Reason
from toposeal.host import entropy
from toposeal.limits import NONCE_SIZE
from toposeal.pki.mint import serial_number

SIZES = (16, 20, NONCE_SIZE, 64)


def broken(source: Callable[[int], bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "token_bytes", source)


def refused(function: Callable[[], object]) -> None:
    with pytest.raises(PodError) as error:
        function()
    assert error.value.reason is Reason.ENTROPY


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("constant", [b"\x00", b"\xff", b"\x5a", b"abc"])
def test_O4_a_constant_generator_is_refused(
    monkeypatch: pytest.MonkeyPatch, size: int, constant: bytes
) -> None:
    broken(lambda n: (constant * n)[:n], monkeypatch)
    refused(lambda: entropy.random_bytes(size))
    refused(entropy.new_signing_keys)


def test_O4_a_generator_that_repeats_itself_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    broken(lambda n: bytes(range(n)), monkeypatch)
    refused(lambda: entropy.random_bytes(32))
    refused(entropy.new_signing_keys)


def test_O4_different_bytes_without_variety_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """As from a counter in an otherwise empty pool."""
    numbers = itertools.count()
    broken(lambda n: next(numbers).to_bytes(n, "big"), monkeypatch)
    refused(lambda: entropy.random_bytes(32))


@pytest.mark.parametrize(
    "error", [OSError(38, "Function not implemented"), NotImplementedError(), BlockingIOError()]
)
def test_O4_a_failing_getrandom_is_refused(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(size: int) -> bytes:
        raise error

    broken(fail, monkeypatch)
    refused(lambda: entropy.random_bytes(32))
    refused(entropy.new_signing_keys)


@pytest.mark.parametrize("missing", [1, 16, 31, 32])
def test_O4_a_short_read_is_refused(monkeypatch: pytest.MonkeyPatch, missing: int) -> None:
    genuine = secrets.token_bytes
    broken(lambda n: genuine(n - missing), monkeypatch)
    refused(lambda: entropy.random_bytes(32))


@pytest.mark.parametrize("size", [0, 1, 15])
def test_too_few_bytes_cannot_be_judged(size: int) -> None:
    with pytest.raises(ValueError, match="at least 16"):
        entropy.random_bytes(size)


def test_O5_a_million_nonces_and_serials_are_unique() -> None:
    """Drawn by the same source as the pod's, without the check of each, which doubles the time."""
    count = 1_000_000
    assert len({secrets.token_bytes(NONCE_SIZE) for _ in range(count)}) == count
    assert len({serial_number(secrets.token_bytes(20)) for _ in range(count)}) == count


def test_O5_K7_keys_of_boots_and_leaves_are_unique() -> None:
    boots = [entropy.new_signing_keys() for _ in range(200)]
    ca_keys = {keys.ca.private_numbers().private_value for keys in boots}
    leaves = {entropy.new_key().private_numbers().private_value for _ in range(200)}
    assert len(ca_keys | leaves) == 400
    assert len({keys.ik.private_bytes_raw() for keys in boots}) == 200


def test_O5_bytes_differ_and_have_the_size_asked_for() -> None:
    found = [entropy.random_bytes(size) for size in SIZES for _ in range(100)]
    assert len(set(found)) == len(found)
    assert {len(data) for data in found} == set(SIZES)
