"""Which open file is a place, and whom its mode lets in; processes themselves are tested in namespaces."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from toposeal.host.pod_processes import Credentials, Place, holders

OWNER, GROUP, OTHER = 1001, 1002, 1003


def looks(mode: int, *, inode: int = 7, device: int = 1, number: int = 0) -> os.stat_result:
    return os.stat_result(
        (mode, inode, device, 1, OWNER, GROUP, 0, 0, 0, 0), {"st_rdev": number, "st_dev": device}
    )


def who(uid: int, *gids: int, overrides: bool = False) -> Credentials:
    return Credentials(uid, frozenset(gids), overrides)


@pytest.mark.parametrize(
    ("credentials", "mode", "may"),
    [
        (who(OWNER), 0o200, True),
        (who(OWNER, GROUP), 0o022, False),  # the owner's bits alone are the owner's
        (who(OTHER, GROUP), 0o020, True),
        (who(OTHER, GROUP), 0o202, False),
        (who(OTHER), 0o002, True),
        (who(OTHER), 0o775, False),
        (who(OTHER, overrides=True), 0o000, True),
    ],
)
def test_E16_a_mode_lets_in_as_the_kernel_does(credentials: Credentials, mode: int, may: bool) -> None:
    assert credentials.may_use(looks(stat.S_IFSOCK | mode)) is may


def test_E16_a_device_is_its_number_wherever_it_stands() -> None:
    device = Place("/dev/tdx_guest", looks(stat.S_IFCHR, number=99))
    assert device.is_of(looks(stat.S_IFCHR, inode=8, device=2, number=99), "/elsewhere")
    assert not device.is_of(looks(stat.S_IFCHR, number=98), "/dev/tdx_guest")
    assert not device.is_of(looks(stat.S_IFBLK, number=99), "/dev/tdx_guest")


def test_E16_a_directory_is_its_inode_and_what_lies_in_it() -> None:
    place = Place("/a/report", looks(stat.S_IFDIR))
    assert place.is_of(looks(stat.S_IFDIR), "/bound/elsewhere")
    assert place.is_of(looks(stat.S_IFREG, inode=9), "/a/report/entry/inblob")
    assert not place.is_of(looks(stat.S_IFREG, inode=9), "/a/report-2/entry")
    assert not place.is_of(looks(stat.S_IFREG, inode=9, device=2), "/a/report/entry/inblob")


def test_E16_what_this_process_has_not_is_told_by_its_name() -> None:
    place = Place.of("/nonexistent/report")
    assert place == Place("/nonexistent/report", None)
    assert place.is_of(looks(stat.S_IFREG), "/nonexistent/report/entry")
    assert place.is_of(looks(stat.S_IFDIR), "/nonexistent/report")
    assert not place.is_of(looks(stat.S_IFDIR), "/nonexistent/report-2")


def test_E16_a_link_is_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert Place.of(str(tmp_path / "link")).path == str((tmp_path / "real").resolve())


def test_this_process_is_not_another_one(tmp_path: Path) -> None:
    with (tmp_path / "open").open("wb"):
        assert [each.pid for each in holders([Place.of(str(tmp_path))])] == []
