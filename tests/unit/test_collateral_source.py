"""host.collateral_source: at once what is at hand, fresh in the background, kept when all is silent."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.snp import amd, chip
from support.tdx import NOW, PKI

from toposeal.evidence.bundle import EMPTY, Bundle
from toposeal.evidence.collateral import parse_collateral
from toposeal.evidence.snp_certs import KeyKind
from toposeal.evidence.snp_tcb import Product
from toposeal.host import collateral_source, vendor_http
from toposeal.host.collateral_cache import CollateralCache
from toposeal.host.collateral_source import CachedSource, Current, FileSource
from toposeal.host.kds import Kds
from toposeal.host.pcs import Pcs
from toposeal.verification.high_water import Marks
from toposeal_lab.vendor_service import Fault, VendorService, vendor_service

ANCHORS = replace(PKI.anchors(), amd_roots=amd().anchors().amd_roots)
COLLATERAL, CRL = PKI.collateral(), amd().crl()
GENOA = (Product.GENOA, KeyKind.VCEK)
Work = Callable[[CachedSource], Awaitable[None]]


@pytest.fixture(scope="module")
def running() -> Iterator[VendorService]:
    with vendor_service() as service:
        yield service


@pytest.fixture
def server(running: VendorService, monkeypatch: pytest.MonkeyPatch) -> VendorService:
    monkeypatch.setattr(vendor_http, "VENDOR_BACKOFF", 1)
    monkeypatch.setattr(collateral_source, "_PACE", 0.01)
    monkeypatch.setattr(collateral_source, "COLLATERAL_RETRY", 50)
    monkeypatch.setattr(time, "time", lambda: NOW + 0.5)
    running.answers.clear()
    running.faults.clear()
    running.requests.clear()
    running.serve_tdx(COLLATERAL)
    running.serve_snp([chip()], CRL)
    return running


@pytest.fixture
def run(server: VendorService, tmp_path: Path) -> Callable[[Work, Bundle], None]:
    """Run `work` beside a source that has just started on the one cache of the test."""

    def run_source(work: Work, bundle: Bundle = EMPTY) -> None:
        async def both() -> None:
            source = opened(server, tmp_path, bundle)
            running = asyncio.create_task(source.run())
            await work(source)
            running.cancel()

        asyncio.run(asyncio.wait_for(both(), 20))

    return run_source


def opened(server: VendorService, tmp_path: Path, bundle: Bundle = EMPTY) -> CachedSource:
    cache = CollateralCache(str(tmp_path / "cache"), ANCHORS)
    return CachedSource(cache, Pcs(server.service, server.service), Kds(server.service), bundle)


async def until(holds: Callable[[], Any]) -> None:
    while not holds():
        await asyncio.sleep(0.01)


def fmspcs(source: CachedSource) -> list[str]:
    return [parse_collateral(entry).fmspc.hex() for entry in source.current().tdx]


def test_a_file_is_what_it_is() -> None:
    source = FileSource(Bundle(tdx=(COLLATERAL,), crls=(CRL,)))
    source.want_tdx(PKI.fmspc, own=True)
    source.want_list(*GENOA)
    source.settle(60)
    asyncio.run(source.run())
    assert (source.current(), source.marks) == (Current((COLLATERAL,), (CRL,)), Marks())


def test_what_is_wanted_is_fetched_in_the_background(run: Callable[..., None]) -> None:
    async def work(source: CachedSource) -> None:
        assert source.current() == Current()
        source.want_tdx(PKI.fmspc, own=True)
        source.want_list(*GENOA)
        await until(lambda: source.current().tdx and source.current().crls)
        assert json.loads(source.current().tdx[0]) == json.loads(COLLATERAL)
        assert source.current().crls == (CRL,)
        assert source.marks.evaluations == {PKI.fmspc.hex(): 20}

    run(work)


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=503),
        Fault(status=404),
        Fault(body=b"<html>"),
        Fault(body=b"x" * 5_000, cut=10),
        Fault(body=bytes(200 << 10)),
    ],
    ids=["unreachable", "unknown", "malformed", "cut", "too large"],
)
def test_V8_E9_fault_14_a_restart_without_a_network_serves_what_the_disk_has(
    run: Callable[..., None], server: VendorService, fault: Fault
) -> None:
    async def first(source: CachedSource) -> None:
        source.want_tdx(PKI.fmspc)
        source.want_list(*GENOA)
        await until(lambda: source.current().tdx and source.current().crls)

    async def second(source: CachedSource) -> None:
        assert fmspcs(source) == [PKI.fmspc.hex()]
        assert source.current().crls == (CRL,)
        await until(lambda: len(server.requests) > 2)  # it has asked, in vain
        assert fmspcs(source) == [PKI.fmspc.hex()]

    run(first)
    server.requests.clear()
    server.faults["/"] = fault
    run(second)


def test_E9_fault_14_a_service_that_goes_back_changes_nothing(
    run: Callable[..., None], server: VendorService, capfd: pytest.CaptureFixture[str]
) -> None:
    async def newest(source: CachedSource) -> None:
        source.want_tdx(PKI.fmspc)
        await until(lambda: source.marks.evaluations.get(PKI.fmspc.hex()) == 21)

    async def older(source: CachedSource) -> None:
        await until(lambda: len(server.requests) >= 4)
        await asyncio.sleep(0.1)
        assert parse_collateral(source.current().tdx[0]).tcb_info.evaluation == 21

    server.serve_tdx(PKI.collateral(evaluation=21))
    run(newest)
    server.serve_tdx(COLLATERAL)
    server.requests.clear()
    capfd.readouterr()
    run(older)
    assert '"reason": "collateral_rollback"' in capfd.readouterr().out


def test_E9_fault_14_expired_collateral_is_not_served_after_a_restart(
    run: Callable[..., None], server: VendorService, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def first(source: CachedSource) -> None:
        source.want_tdx(PKI.fmspc)
        await until(lambda: source.current().tdx)

    async def later(source: CachedSource) -> None:
        assert source.current() == Current()

    run(first)
    server.faults["/"] = Fault(status=503)
    monkeypatch.setattr(time, "time", lambda: NOW + 40 * 86_400.0)
    run(later)


def test_a_failed_part_is_asked_for_again_and_again(run: Callable[..., None], server: VendorService) -> None:
    async def work(source: CachedSource) -> None:
        server.faults["/tcb"] = Fault(status=404, times=3)
        source.want_tdx(PKI.fmspc)
        await until(lambda: source.current().tdx)

    run(work)
    assert len([each for each in server.requests if "/tcb" in each]) == 4


def test_it_is_refreshed_before_it_expires(
    run: Callable[..., None], server: VendorService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collateral_source, "COLLATERAL_REFRESH", 60)

    async def work(source: CachedSource) -> None:
        source.want_tdx(PKI.fmspc)
        await until(lambda: source.current().tdx)
        server.serve_tdx(PKI.collateral(evaluation=22))
        await until(lambda: source.marks.evaluations[PKI.fmspc.hex()] == 22)
        await until(lambda: parse_collateral(source.current().tdx[0]).tcb_info.evaluation == 22)

    run(work)


def test_R4_the_event_loop_is_never_kept_waiting(run: Callable[..., None], server: VendorService) -> None:
    async def work(source: CachedSource) -> None:
        server.faults["/tcb"] = Fault(delay_s=1.0, times=1)
        source.want_tdx(PKI.fmspc)
        longest, last = 0.0, time.monotonic()
        while not source.current().tdx:
            await asyncio.sleep(0.001)
            now = time.monotonic()
            longest, last = max(longest, now - last), now
        assert longest < 0.7  # a machine that others use too stalls now and then

    run(work)


def test_the_owners_bundle_seeds_the_cache_and_raises_the_marks(run: Callable[..., None]) -> None:
    foreign = PKI.collateral(parts={"tcb_info_signature": "00" * 64})

    async def work(source: CachedSource) -> None:
        assert fmspcs(source) == [PKI.fmspc.hex()]
        assert source.marks.evaluations == {PKI.fmspc.hex(): 20}

    run(work, Bundle(tdx=(foreign, COLLATERAL)))


def test_a_thread_may_want_too(run: Callable[..., None]) -> None:
    async def work(source: CachedSource) -> None:
        await asyncio.sleep(0.05)
        await asyncio.to_thread(source.want_tdx, PKI.fmspc)
        await until(lambda: source.current().tdx)

    run(work)


def test_the_owners_lists_serve_until_and_beside_the_fetched_ones(
    run: Callable[..., None], server: VendorService
) -> None:
    forged, seed = amd().crl(signer=amd().keys.ask), amd().crl(revoked=(amd().asvk,))

    async def work(source: CachedSource) -> None:
        assert source.current().crls == (seed,)
        source.want_list(*GENOA)
        await until(lambda: len(source.current().crls) == 2)
        assert source.current().crls == (CRL, seed)

    run(work, Bundle(crls=(forged, seed, seed)))


def test_L4_no_more_lists_are_served_than_a_document_may_carry(run: Callable[..., None]) -> None:
    async def work(source: CachedSource) -> None:
        assert len(source.current().crls) == 6
        source.want_list(*GENOA)
        await until(lambda: CRL in source.current().crls)
        assert len(source.current().crls) == 6

    run(work, Bundle(crls=tuple(amd().crl() for _ in range(8))))


def test_the_start_waits_for_what_is_our_own_and_not_for_ever(
    run: Callable[..., None], server: VendorService
) -> None:
    async def work(source: CachedSource) -> None:
        source.want_list(*GENOA)
        await asyncio.to_thread(source.want_tdx, PKI.fmspc, own=True)
        await asyncio.to_thread(source.settle, 15)
        assert source.current().tdx and source.current().crls
        source.want_tdx(b"absent")
        await asyncio.to_thread(source.settle, 15)  # a peer's
        source.want_tdx(b"absent", own=True)
        start = time.monotonic()
        await asyncio.to_thread(source.settle, 0.2)
        assert 0.1 < time.monotonic() - start < 5

    run(work)


def test_R4_strangers_families_give_way_and_our_own_does_not(server: VendorService, tmp_path: Path) -> None:
    async def wants() -> set[str]:
        source = opened(server, tmp_path)
        source.want_list(*GENOA)
        source.want_tdx(PKI.fmspc, own=True)
        for number in range(40):
            source.want_tdx(number.to_bytes(6, "big"))
        source.want_tdx((24).to_bytes(6, "big"))
        source.want_tdx(b"\xff" * 6)
        return set(source._wants)

    found = asyncio.run(wants())
    assert len(found) == 16
    assert {"crl Genoa VCEK", f"tdx {PKI.fmspc.hex()}", "tdx 000000000018", "tdx ffffffffffff"} <= found
    assert "tdx 000000000019" not in found


def test_R4_S9_strangers_families_never_put_out_our_own(
    run: Callable[..., None], server: VendorService
) -> None:
    """Without our own our SEAL evidence is refused by ourselves, which fences."""
    families = [f"{number:012x}" for number in range(20)]
    for family in families:
        server.serve_tdx(PKI.collateral(tcb={"fmspc": family}))

    async def work(source: CachedSource) -> None:
        source.want_tdx(PKI.fmspc, own=True)
        await until(lambda: source.current().tdx)
        for family in families:
            source.want_tdx(bytes.fromhex(family))
            await until(lambda wanted=family: wanted in fmspcs(source))  # type: ignore[misc]
        assert fmspcs(source) == [PKI.fmspc.hex(), *families[-15:]]

    run(work)


def test_what_is_all_our_own_makes_room_for_nobody(server: VendorService, tmp_path: Path) -> None:
    async def wants() -> set[str]:
        source = opened(server, tmp_path)
        for number in range(17):
            source.want_tdx(number.to_bytes(6, "big"), own=True)
        return set(source._wants)

    assert asyncio.run(wants()) == {f"tdx {number:012x}" for number in range(16)}
