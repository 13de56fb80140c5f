"""RTMR[3] is extended once with the own instance, through real files, or the member says why not."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support.tdx import HOST, WEB
from support.tsm import served

from toposeal.errors import EvidenceError, PodError, Reason
from toposeal.evidence import rtmr
from toposeal.evidence.tdx_quote import parse_tdx_quote
from toposeal.host.configfs_tsm import ConfigfsTsm
from toposeal.host.rtmr import FILE, MEASUREMENTS, Rtmr3
from toposeal_lab.measurements_fs import FOLDER
from toposeal_lab.tsm import ReportDirectory
from toposeal_lab.tsm_faults import Faults
from toposeal_lab.tsm_providers import TdxProvider

IID = bytes(range(48))


@pytest.fixture
def mount() -> Iterator[Path]:
    with served({"pod": ReportDirectory(TdxProvider(HOST, WEB), Faults())}) as mountpoint:
        yield mountpoint


@pytest.fixture
def directory(mount: Path) -> Path:
    return mount / FOLDER / "pod"


def refused(call: Callable[[], object]) -> PodError:
    with pytest.raises(PodError) as caught:
        call()
    return caught.value


def test_the_default_is_the_kernels_own_place() -> None:
    assert (MEASUREMENTS, FILE) == ("/sys/devices/virtual/misc/tdx_guest/measurements", "rtmr3:sha384")


def test_the_register_is_extended_and_quotes_carry_it(mount: Path, directory: Path) -> None:
    register = Rtmr3(str(directory))
    assert register.read() == rtmr.ZERO
    expected = rtmr.extend(rtmr.ZERO, rtmr.instance_event(IID))
    assert register.extend_once(IID) == expected == register.read()
    quote = parse_tdx_quote(ConfigfsTsm(str(mount / "pod")).report(bytes(64), 5.0).outblob)
    assert quote.rtmr3 == expected


def test_it_goes_on_from_what_the_guest_has_extended_before(directory: Path) -> None:
    before = rtmr.instance_event(b"\1" * 48)
    (directory / FILE).open("wb", buffering=0).write(before)
    found = Rtmr3(str(directory)).extend_once(IID)
    assert found == rtmr.replay(rtmr.ZERO, [before, rtmr.instance_event(IID)])


def test_it_is_extended_once(directory: Path) -> None:
    register = Rtmr3(str(directory))
    value = register.extend_once(IID)
    assert refused(lambda: register.extend_once(IID)).reason is Reason.RTMR_EXTEND
    assert register.read() == value


def test_another_id_is_refused_before_anything_is_written(directory: Path) -> None:
    with pytest.raises(EvidenceError):
        Rtmr3(str(directory)).extend_once(IID[:-1])
    assert Rtmr3(str(directory)).read() == rtmr.ZERO


def test_without_the_file_there_is_a_reason_of_its_own(tmp_path: Path) -> None:
    """So that a pod whose topology asks for no event goes on, on an older kernel or on SNP."""
    (tmp_path / "file").touch()
    for absent in (tmp_path, tmp_path / "nothing", tmp_path / "file"):
        register = Rtmr3(str(absent))
        assert refused(register.read).reason is Reason.RTMR_ABSENT
        assert refused(partial(register.extend_once, IID)).reason is Reason.RTMR_ABSENT


def test_a_link_is_not_followed(tmp_path: Path, directory: Path) -> None:
    (tmp_path / FILE).symlink_to(directory / FILE)
    error = refused(lambda: Rtmr3(str(tmp_path)).extend_once(IID))
    assert (error.reason, "ELOOP" in str(error)) == (Reason.RTMR_EXTEND, True)


@pytest.mark.parametrize("size", [0, 1, 47, 49, 4096])
def test_a_register_has_48_bytes(tmp_path: Path, size: int) -> None:
    (tmp_path / FILE).write_bytes(bytes(size))
    assert refused(Rtmr3(str(tmp_path)).read).reason is Reason.RTMR_EXTEND


def test_a_register_that_was_not_extended_is_noticed(tmp_path: Path) -> None:
    """A plain file takes the event as its content."""
    (tmp_path / FILE).write_bytes(bytes(48))
    error = refused(lambda: Rtmr3(str(tmp_path)).extend_once(IID))
    assert error.mismatches[0].found == rtmr.instance_event(IID).hex()


def test_a_second_writer_is_noticed(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes between our read and our write; only the value afterwards shows it."""
    write = os.write

    def racing(file: int, data: Any) -> int:
        if stat.S_ISREG(os.fstat(file).st_mode) and len(data) == 48:
            write(file, b"\1" * 48)
        return os.pwrite(file, data, 0)

    monkeypatch.setattr(os, "write", racing)
    error = refused(lambda: Rtmr3(str(directory)).extend_once(IID))
    assert (error.reason, "after the extension" in str(error)) == (Reason.RTMR_EXTEND, True)


def test_a_short_write_is_a_failure(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "write", lambda file, data: len(data) - 1)
    assert "47 bytes written" in str(refused(lambda: Rtmr3(str(directory)).extend_once(IID)))


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EIO, errno.EINTR])
def test_the_kernels_errors_are_named(directory: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def failing(file: int, data: bytes) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "write", failing)
    error = refused(lambda: Rtmr3(str(directory)).extend_once(IID))
    assert (error.reason, errno.errorcode[number] in str(error)) == (Reason.RTMR_EXTEND, True)
