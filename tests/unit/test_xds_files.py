"""The directory with the keys: where it may lie, whose it is, and what a write leaves behind."""

from __future__ import annotations

import os
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from toposeal.dataplane.layout import WRITING_ORDER
from toposeal.errors import PodError, Reason
from toposeal.host.xds_files import XdsDirectory, prepare

ME, GROUP = os.geteuid(), os.getegid()
FILES = {"lds.json": b"listeners", "cds.json": b"clusters", "sds-id.json": b"key"}


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
    assert modes(memory / "pod") == {"pod": 0o750, "xds": 0o750, "sockets": 0o750, "envoy": 0o770}


def test_F2_existing_directories_are_repaired(memory: Path) -> None:
    (memory / "pod" / "xds").mkdir(parents=True)
    for path in (memory / "pod", memory / "pod" / "xds"):
        path.chmod(0o777)
    prepare(str(memory / "pod"), owner=ME, group=GROUP)
    assert modes(memory / "pod") == {"pod": 0o750, "xds": 0o750, "sockets": 0o750, "envoy": 0o770}


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


def test_files_are_for_the_daemon_and_envoys_group(xds: tuple[Path, XdsDirectory]) -> None:
    path, directory = xds
    before = os.umask(0)
    try:
        directory.write(FILES)
    finally:
        os.umask(before)
    assert held(path) == FILES
    assert {(stat.S_IMODE(p.stat().st_mode), p.stat().st_gid, p.stat().st_nlink) for p in path.iterdir()} == {
        (0o640, GROUP, 1)
    }


def test_secrets_come_before_clusters_before_listeners(
    xds: tuple[Path, XdsDirectory], monkeypatch: pytest.MonkeyPatch
) -> None:
    renamed: list[str] = []
    real = os.rename

    def rename(source: str, target: str, **options: int) -> None:
        renamed.append(target)
        real(source, target, **options)

    monkeypatch.setattr(os, "rename", rename)
    xds[1].write(dict.fromkeys(reversed(WRITING_ORDER), b""))
    assert renamed == list(WRITING_ORDER)
    assert renamed.index("sds-id.json") < renamed.index("cds.json") < renamed.index("lds.json")


def test_a_file_is_replaced_never_written_to(xds: tuple[Path, XdsDirectory]) -> None:
    path, directory = xds
    directory.write(FILES)
    (path / "link").hardlink_to(path / "lds.json")
    with (path / "lds.json").open("rb") as reader:
        directory.write({"lds.json": b"new"})
        assert reader.read() == b"listeners"
    assert (path / "link").read_bytes() == b"listeners"
    assert (path / "lds.json").read_bytes() == b"new"


def test_F6_a_failure_on_the_way_changes_nothing(
    xds: tuple[Path, XdsDirectory], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, directory = xds
    directory.write(FILES)
    calls = iter([None, OSError(28, "No space left on device")])

    def fsync(_: int) -> None:
        fault = next(calls)
        if fault is not None:
            raise fault

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(PodError, match="No space") as caught:
        directory.write(dict.fromkeys(FILES, b"new"))
    assert caught.value.reason is Reason.STATE_DIR
    assert held(path) == FILES


def test_reset_leaves_exactly_the_given_files(xds: tuple[Path, XdsDirectory]) -> None:
    path, directory = xds
    directory.write(FILES)
    (path / ".leftover").write_bytes(b"key")
    directory.reset({"lds.json": b"closed"})
    assert held(path) == {"lds.json": b"closed"}


def test_a_file_that_envoy_does_not_read_is_our_own_mistake(xds: tuple[Path, XdsDirectory]) -> None:
    with pytest.raises(PodError, match="only"):
        xds[1].write({"other.json": b""})
    assert held(xds[0]) == {}
