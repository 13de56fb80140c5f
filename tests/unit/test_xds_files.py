"""The pod's directories: where they may lie, whose they are, and what is in the one that Envoy reads."""

from __future__ import annotations

import os
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from toposeal.errors import PodError, Reason
from toposeal.host.xds_files import XdsDirectory, prepare

ME, GROUP = os.geteuid(), os.getegid()
MODES = {"pod": 0o751, "xds": 0o750, "sockets": 0o750, "envoy": 0o770, "workload": 0o755}
CLOSED = {"bootstrap.json": b"bootstrap", "closed": b""}


@pytest.fixture
def memory() -> Iterator[Path]:
    """An empty directory on a tmpfs."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as path:
        os.chmod(path, 0o755)
        yield Path(path)


@pytest.fixture
def xds(memory: Path) -> Iterator[tuple[Path, XdsDirectory]]:
    prepare(str(memory / "pod"), owner=ME, group=GROUP)
    directory = XdsDirectory(str(memory / "pod" / "xds"), group=GROUP)
    yield memory / "pod" / "xds", directory
    directory.close()


def held(path: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in path.iterdir()}


def refused(text: str, path: Path, **options: int) -> None:
    with pytest.raises(PodError, match=text) as caught:
        prepare(str(path), **({"owner": ME, "group": GROUP} | options))
    assert caught.value.reason is Reason.STATE_DIR


def modes(path: Path) -> dict[str, int]:
    return {p.name: stat.S_IMODE(p.stat().st_mode) for p in [path, *path.iterdir()]}


def test_F2_directories_are_made_for_daemon_and_envoy_alone_whatever_the_umask(memory: Path) -> None:
    before = os.umask(0)
    try:
        prepare(str(memory / "pod"), owner=ME, group=GROUP)
    finally:
        os.umask(before)
    assert modes(memory / "pod") == MODES


def test_F2_existing_directories_are_repaired(memory: Path) -> None:
    (memory / "pod" / "xds").mkdir(parents=True)
    for path in (memory / "pod", memory / "pod" / "xds"):
        path.chmod(0o777)
    prepare(str(memory / "pod"), owner=ME, group=GROUP)
    assert modes(memory / "pod") == MODES


@pytest.mark.skipif(ME != 0, reason="only root can mount")
def test_F2_what_is_shared_with_the_application_may_be_mounted_there(memory: Path) -> None:
    """An emptyDir or a volume in memory: root's, open for everybody. On anything else it is refused."""
    shared = memory / "pod" / "workload"
    shared.mkdir(parents=True)
    for options, kind in (("mode=1777", "tmpfs"), ("size=64k", "ramfs")):
        subprocess.run(["mount", "-t", kind, "-o", options, "test", str(shared)], check=True)
        try:
            if kind == "ramfs":
                refused("file system", memory / "pod")
                continue
            prepare(str(memory / "pod"), owner=ME, group=GROUP)
            assert modes(memory / "pod") == MODES
            prepare(str(memory / "pod"), owner=ME, group=GROUP)
        finally:
            subprocess.run(["umount", str(shared)], check=True)


def test_F2_a_linked_directory_is_refused(memory: Path) -> None:
    (memory / "elsewhere").mkdir()
    (memory / "pod").symlink_to("elsewhere")
    refused("directory", memory / "pod")
    (memory / "real").mkdir()
    (memory / "real" / "xds").symlink_to("../elsewhere")
    refused("directory", memory / "real")


@pytest.mark.skipif(ME != 0, reason="only root can give a directory away")
def test_F2_somebody_elses_directory_is_refused(memory: Path) -> None:
    (memory / "pod").mkdir()
    os.chown(memory / "pod", 1000, 1000)
    refused("owner 1000", memory / "pod")


def test_F2_a_directory_with_other_things_in_it_is_not_changed(memory: Path) -> None:
    (memory / "pod" / "letters").mkdir(parents=True)
    (memory / "pod").chmod(0o711)
    refused("letters", memory / "pod")
    assert modes(memory / "pod")["pod"] == 0o711


def test_a_directory_that_envoys_user_cannot_reach_is_refused(memory: Path) -> None:
    (memory / "private").mkdir(mode=0o700)
    refused("mode 0700", memory / "private" / "pod")


def test_a_directory_that_cannot_be_made_is_refused(memory: Path) -> None:
    refused("No such file", memory / "missing" / "pod")


def disk() -> Iterator[Path]:
    for place in ("/var/tmp", "/", str(Path(__file__).parent)):
        kind = subprocess.run(["stat", "-f", "-c", "%T", place], capture_output=True, text=True, check=True)
        if kind.stdout.strip() != "tmpfs" and os.access(place, os.W_OK):
            yield Path(place)


def test_F1_a_directory_on_disk_is_refused() -> None:
    place = next(disk(), None)
    if place is None:
        pytest.skip("every file system here is a tmpfs")
    with tempfile.TemporaryDirectory(dir=place) as path:
        os.chmod(path, 0o755)
        refused("tmpfs", Path(path) / "pod")
        Path(path, "xds").mkdir(mode=0o750)
        with pytest.raises(PodError, match="tmpfs"):
            XdsDirectory(str(Path(path, "xds")), group=GROUP)


@pytest.mark.parametrize("mode", [0o770, 0o751, 0o754, 0o777])
def test_F2_a_directory_that_others_may_use_is_not_opened(memory: Path, mode: int) -> None:
    (memory / "xds").mkdir()
    (memory / "xds").chmod(mode)
    with pytest.raises(PodError, match=f"mode {mode:04o}"):
        XdsDirectory(str(memory / "xds"), group=GROUP)


@pytest.mark.skipif(ME != 0, reason="only root can give a directory away")
def test_F2_a_directory_of_another_user_is_not_opened(memory: Path) -> None:
    (memory / "xds").mkdir(mode=0o750)
    os.chown(memory / "xds", 1000, 1000)
    with pytest.raises(PodError, match="owner 1000"):
        XdsDirectory(str(memory / "xds"), group=GROUP)


def test_a_missing_directory_is_not_opened(memory: Path) -> None:
    with pytest.raises(PodError, match="No such file"):
        XdsDirectory(str(memory / "xds"), group=GROUP)


def test_F2_the_file_is_for_the_daemon_and_envoys_group(xds: tuple[Path, XdsDirectory]) -> None:
    path, directory = xds
    before = os.umask(0)
    try:
        directory.reset(b"bootstrap")
    finally:
        os.umask(before)
    assert held(path) == CLOSED
    assert {(stat.S_IMODE(p.stat().st_mode), p.stat().st_gid, p.stat().st_nlink) for p in path.iterdir()} == {
        (0o640, GROUP, 1)
    }


def test_F2_the_file_is_made_anew_never_written_to(xds: tuple[Path, XdsDirectory], memory: Path) -> None:
    path, directory = xds
    (memory / "theirs").write_bytes(b"theirs")
    (path / "bootstrap.json").hardlink_to(memory / "theirs")
    (path / ".leftover").write_bytes(b"old")
    directory.reset(b"bootstrap")
    assert (memory / "theirs").read_bytes() == b"theirs"
    assert held(path) == CLOSED


def test_what_is_open_is_marked_without_a_new_file(xds: tuple[Path, XdsDirectory]) -> None:
    path, directory = xds
    directory.reset(b"bootstrap")
    before = (path / "closed").stat().st_ino
    directory.mark_open()
    assert held(path) == {"bootstrap.json": b"bootstrap", "open": b""}
    assert (path / "open").stat().st_ino == before
    for _ in range(2):
        directory.mark_closed()
        assert held(path) == CLOSED


def test_what_was_taken_away_cannot_be_marked(xds: tuple[Path, XdsDirectory]) -> None:
    with pytest.raises(PodError) as caught:
        xds[1].mark_open()
    assert caught.value.reason is Reason.STATE_DIR
    xds[1].mark_closed()


def test_F6_without_room_there_is_no_file(
    xds: tuple[Path, XdsDirectory], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, directory = xds
    directory.reset(b"bootstrap")

    def fchmod(*_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fchmod", fchmod)
    with pytest.raises(PodError, match="No space") as caught:
        directory.reset(b"bootstrap")
    assert caught.value.reason is Reason.STATE_DIR
    assert held(path) == {}
