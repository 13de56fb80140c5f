"""Every flip, cut, lie and confusion of every kind of evidence is refused, typed, quickly, in little memory.

2,000 flipped bits of each kind, by `--flips N` more: `make fuzz` takes 20,000. `--hypothesis-profile deep`
deepens the property tests beside this file.
"""

from __future__ import annotations

import base64
import random
import tracemalloc
from collections.abc import Callable, Iterator

import pytest
from support.kinds import DATA, Kind, kinds
from support.quick import quickly
from support.snp import amd, chip
from support.tdx import HOST, PKI

from toposeal.evidence.amd_x509 import parse_amd_certificate, parse_amd_crl, split_certificates
from toposeal.evidence.ghcb_table import VCEK, parse_certificate_table
from toposeal.evidence.kind import detect_kind
from toposeal.evidence.pck import parse_pck_chain
from toposeal.evidence.snp_certs import parse_endorsement
from toposeal_lab.simsnp import certificate_table
from toposeal_lab.simsnp.pki import der

LIMIT_SECONDS, LIMIT_BYTES = 0.05, 10 << 20
NAMES = (
    *("tdx-4", "tdx-5-2", "tdx-5-3", "tdx-5-4", "tdx-collateral"),
    *("snp-2-milan", "snp-3-turin", "snp-4-genoa", "snp-5-turin", "snp-5-vlek"),
    *("snp-key", "snp-chain", "snp-crl", "snp-table", "gpu-report", "gpu-chain"),
)
# A bit of these can be flipped without a meaning: the case of a hexadecimal digit, an untrusted hint.
FREE = {"tdx-collateral", "snp-table"}
QUOTES = {"tdx-4", "tdx-5-2", "tdx-5-3", "tdx-5-4"}  # of one machine, under one collateral
SIGNED = tuple(name for name in NAMES if name not in FREE)


@pytest.fixture
def flips(request: pytest.FixtureRequest) -> int:
    count: int = request.config.getoption("--flips")
    return count


def flipped(data: bytes, bit: int) -> bytes:
    place = bit // 8
    return data[:place] + bytes([data[place] ^ 1 << bit % 8]) + data[place + 1 :]


def sampled(data: bytes, count: int, seed: str) -> Iterator[bytes]:
    """`count` of `data` with one bit flipped, or all there are."""
    chosen = random.Random(seed).sample(range(8 * len(data)), min(count, 8 * len(data)))
    return (flipped(data, bit) for bit in chosen)


def refused(kind: Kind, data: bytes) -> bool:
    return not quickly(lambda: kind.believed(data), LIMIT_SECONDS)


def test_every_kind_is_tested() -> None:
    assert set(NAMES) == set(kinds())


@pytest.mark.parametrize("name", NAMES)
def test_the_genuine_one_is_the_positive_control(name: str) -> None:
    assert kinds()[name].believed(kinds()[name].genuine)


@pytest.mark.parametrize("name", SIGNED)
def test_E13_no_flipped_bit_is_believed(name: str, flips: int) -> None:
    kind = kinds()[name]
    assert [data for data in sampled(kind.genuine, flips, name) if not refused(kind, data)] == []


@pytest.mark.parametrize("name", sorted(FREE))
def test_E13_a_flipped_bit_raises_nothing_else(name: str, flips: int) -> None:
    kind = kinds()[name]
    for data in sampled(kind.genuine, flips, name):
        refused(kind, data)


@pytest.mark.parametrize("name", NAMES)
def test_E14_no_truncation_is_believed(name: str) -> None:
    kind = kinds()[name]
    allowed = {len(kind.genuine) - 1} if name.endswith("-chain") else {0} if name == "snp-table" else set()
    believed = {size for size in range(len(kind.genuine)) if kind.believed(kind.genuine[:size])}
    # Of a chain the last newline may be missing; a host may have no table.
    assert believed <= allowed


@pytest.mark.parametrize("name", NAMES)
def test_E14_no_lie_about_a_length_is_believed(name: str) -> None:
    kind = kinds()[name]
    for offset, size in kind.lengths:
        truth = kind.genuine[offset : offset + size]
        for value in (0, 1, (1 << 31) - 1, (1 << 32) - 1):
            lie = (value & (1 << 8 * size) - 1).to_bytes(size, "little")
            data = kind.genuine[:offset] + lie + kind.genuine[offset + size :]
            assert lie == truth or name == "snp-table" or refused(kind, data)
            refused(kind, data)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("tail", [b"x", b"\0x", b"\xff" * 64])
def test_E14_nothing_follows(name: str, tail: bytes) -> None:
    """Zeros after a TDX quote are a platform's habit; a table's blobs need not reach its end."""
    assert name == "snp-table" or refused(kinds()[name], kinds()[name].genuine + tail)


@pytest.mark.parametrize("name", NAMES)
def test_E14_no_kind_passes_for_another(name: str) -> None:
    kind = kinds()[name]
    for other in NAMES:
        same = {name, other} <= QUOTES or {name, other} == {"snp-3-turin", "snp-5-turin"}
        if other != name and not same:
            assert refused(kind, kinds()[other].genuine), other


HUGE = b"\x30\x84\xff\xff\xff\xff"


def hostile_der() -> Iterator[bytes]:
    leaf, root = chip().certificate, der(amd().ark)
    for data in (leaf, root, amd().crl()):
        yield data[:1] + b"\x80" + data[4:] + b"\0\0"  # indefinite
        yield data[:1] + b"\x84\0\0" + data[2:4] + data[4:]  # a longer spelling of the same length
        yield data[:1] + b"\x84\xff\xff\xff\xff" + data[4:]
        yield data[:1] + b"\xff" * 130 + data[4:]
        yield data * 2
    for depth in (100, 1_000):
        yield b"\x30\x80" * depth
        nested = b""
        for _ in range(depth):
            nested = b"\x30\x82" + len(nested).to_bytes(2, "big") + nested
        yield nested
    yield from (b"", b"\x30", b"\x30\x00", HUGE, HUGE + leaf, b"\x30\x03\x02\x01\x00", bytes(4096))


def hostile_pem() -> Iterator[bytes]:
    chain = chip().chain
    begin, end = b"-----BEGIN CERTIFICATE-----\n", b"-----END CERTIFICATE-----\n"
    yield from (begin, begin * 1000, begin + end, end + begin, begin + b"A" * 16_000 + b"\n" + end)
    yield from (chain * 9, chain.replace(b"\n", b"\r\n"), b"\n" + chain, chain + b"text", b"text\n" + chain)
    yield begin + base64.b64encode(HUGE) + b"\n" + end
    yield PKI.root.pem().encode() * 50
    yield chain.replace(b"CERTIFICATE", b"TRUSTED CERTIFICATE")
    yield begin + b"=" * 64 + b"\n" + end


PARSERS: dict[str, Callable[[bytes], object]] = {
    "certificate": lambda data: parse_amd_certificate(data, "certificate"),
    "endorsement": parse_endorsement,
    "crl": parse_amd_crl,
    "pem": lambda data: split_certificates(data, "chain"),
    "pck": parse_pck_chain,
    "table": parse_certificate_table,
    "kind": detect_kind,
}


@pytest.mark.parametrize("name", sorted(PARSERS))
def test_E14_hostile_der_and_pem_are_refused_typed_and_quickly(name: str) -> None:
    parser = Kind(b"", PARSERS[name])
    for data in (*hostile_der(), *hostile_pem()):
        quickly(lambda data=data: parser.believed(data), LIMIT_SECONDS)  # type: ignore[misc]


def test_E14_hostile_der_is_no_certificate_and_hostile_pem_no_chain() -> None:
    for data in hostile_der():
        for name in ("certificate", "endorsement", "crl"):
            assert not Kind(b"", PARSERS[name]).believed(data), (name, data[:20])
    for data in hostile_pem():
        assert not Kind(b"", PARSERS["pck"]).believed(data), data[:40]
        assert refused(kinds()["snp-chain"], data), data[:40]


def test_E14_an_entry_twice_is_refused() -> None:
    leaf = chip().certificate
    for entries in (
        [(VCEK, leaf), (VCEK, leaf)],
        [(VCEK, leaf), (VCEK, b"x")],
        [(bytes([7] * 16), b"x")] * 2,
    ):
        assert not Kind(b"", parse_certificate_table).believed(certificate_table(entries))


@pytest.mark.parametrize("name", NAMES)
def test_E14_refusing_takes_little_memory(name: str) -> None:
    kind = kinds()[name]
    hostile = [*sampled(kind.genuine, 20, name), kind.genuine[:-1], kind.genuine * 50, bytes(1 << 20)]
    hostile += [b"\xff" * (1 << 20), b"[" * (1 << 20), b"-----BEGIN CERTIFICATE-----\n" * 30_000]
    for data in hostile:
        tracemalloc.start()
        kind.believed(data)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < LIMIT_BYTES, data[:20]


def test_R2_garbage_is_refused_at_a_high_rate() -> None:
    """A thousand a second takes less than half of one core: sizes and forms come before any signature."""
    names = ("tdx-4", "tdx-5-4", "snp-5-turin", "gpu-report")
    garbage = [random.Random(name).randbytes(len(kinds()[name].genuine)) for name in names]
    garbage += [kinds()[name].genuine[: len(kinds()[name].genuine) // 2] for name in names]
    garbage += [kinds()[name].genuine[:64] + bytes(5000) for name in names]

    def a_thousand() -> None:
        for index in range(1000):
            assert not kinds()[names[index % 4]].believed(garbage[index % len(garbage)])

    quickly(a_thousand, 0.5)


def test_the_data_of_these_tests_is_what_the_evidence_says() -> None:
    assert DATA in kinds()["tdx-4"].genuine
    assert DATA in kinds()["snp-3-turin"].genuine
    assert HOST.ppid in kinds()["tdx-4"].genuine
