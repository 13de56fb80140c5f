"""The lab's register files behave as the kernel's, and quotes carry what was extended."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.snp import WEB as SNP_WEB
from support.snp import chip
from support.tdx import HOST, WEB
from support.tsm import served

from toposeal.evidence import rtmr
from toposeal.evidence.tdx_quote import TdxQuote, parse_tdx_quote
from toposeal.host.configfs_tsm import ConfigfsTsm
from toposeal_lab.measurements_fs import FOLDER, MODES, RTMR3, MeasurementFolder, Registers
from toposeal_lab.tsm import ReportDirectory
from toposeal_lab.tsm_faults import Faults
from toposeal_lab.tsm_providers import SnpProvider, TdxProvider

EVENT = b"\x5a" * 48


@pytest.fixture
def mount() -> Iterator[Path]:
    """Two TDs and an SNP guest."""
    directories = {name: ReportDirectory(TdxProvider(HOST, WEB), Faults()) for name in ("a", "b")}
    directories["snp"] = ReportDirectory(SnpProvider(chip(), SNP_WEB, b""), Faults())
    with served(directories) as mountpoint:
        yield mountpoint


def write(path: Path, *pieces: bytes, offset: int = 0) -> None:
    file = os.open(path, os.O_WRONLY)
    try:
        for piece in pieces:
            assert os.pwrite(file, piece, offset) == len(piece)
    finally:
        os.close(file)


def quoted(mount: Path, pod: str) -> TdxQuote:
    report = ConfigfsTsm(str(mount / pod)).report(secrets.token_bytes(64), 5.0)
    return parse_tdx_quote(report.outblob)


def test_every_file_has_the_value_that_a_quote_has(mount: Path) -> None:
    folder, quote = mount / FOLDER / "a", quoted(mount, "a")
    assert sorted(os.listdir(folder)) == sorted(MODES)
    for name, mode in MODES.items():
        assert (folder / name).read_bytes() == getattr(quote, name.removesuffix(":sha384"))
        found = (folder / name).stat()
        assert (found.st_mode & 0o777, found.st_size) == (mode, 48)


def test_a_write_extends_and_the_next_quote_carries_it(mount: Path) -> None:
    file = mount / FOLDER / "a" / RTMR3
    write(file, EVENT)
    assert file.read_bytes() == rtmr.extend(rtmr.ZERO, EVENT)
    write(file, EVENT, EVENT)
    expected = rtmr.replay(rtmr.ZERO, [EVENT] * 3)
    assert (file.read_bytes(), quoted(mount, "a").rtmr3) == (expected, expected)
    write(mount / FOLDER / "a" / "rtmr2:sha384", EVENT)
    assert quoted(mount, "a").rtmr2 == rtmr.extend(WEB.rtmr[2], EVENT)


def test_an_open_file_shows_the_register_as_it_is(mount: Path) -> None:
    file = os.open(mount / FOLDER / "a" / RTMR3, os.O_RDWR)
    try:
        assert os.pread(file, 48, 0) == rtmr.ZERO
        assert os.pwrite(file, EVENT, 0) == 48
        assert os.pread(file, 99, 0) == rtmr.extend(rtmr.ZERO, EVENT)
        assert os.pread(file, 99, 40) == rtmr.extend(rtmr.ZERO, EVENT)[40:]
    finally:
        os.close(file)


@pytest.mark.parametrize(("size", "offset"), [(1, 0), (47, 0), (49, 0), (96, 0), (48, 1), (47, 1), (48, 48)])
def test_anything_but_one_whole_digest_is_refused(mount: Path, size: int, offset: int) -> None:
    file = mount / FOLDER / "a" / RTMR3
    with pytest.raises(OSError) as caught:
        write(file, bytes(size), offset=offset)
    assert caught.value.errno == errno.EINVAL
    assert file.read_bytes() == rtmr.ZERO


def test_what_was_measured_at_launch_is_read_only(mount: Path) -> None:
    with pytest.raises(PermissionError):
        write(mount / FOLDER / "a" / "mrtd:sha384", EVENT)


def test_one_pods_registers_are_not_anothers(mount: Path) -> None:
    assert sorted(os.listdir(mount / FOLDER)) == ["a", "b"]
    write(mount / FOLDER / "a" / RTMR3, EVENT)
    assert (mount / FOLDER / "b" / RTMR3).read_bytes() == rtmr.ZERO
    assert quoted(mount, "b").rtmr3 == rtmr.ZERO


def test_nobody_makes_or_removes_anything_there(mount: Path) -> None:
    calls: list[Callable[[], None]] = [
        lambda: os.mkdir(mount / FOLDER / "c"),
        lambda: os.rmdir(mount / FOLDER / "a"),
        lambda: os.mkdir(mount / FOLDER / "a" / "x"),
        lambda: os.unlink(mount / FOLDER / "a" / RTMR3),
    ]
    for call in calls:
        with pytest.raises(OSError):
            call()
    folder = MeasurementFolder({"a": Registers(WEB)})
    for refused in (folder.mkdir, folder.rmdir):
        with pytest.raises(OSError, match="x"):
            refused("x")
