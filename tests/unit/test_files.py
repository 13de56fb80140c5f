"""Reading once and writing without clobbering, on a real file system."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

from toposeal.errors import Reason, UsageError
from toposeal.host.files import read_once, read_secret, write_atomic, write_folder, write_new


def _refused(call: Any, path: Path | str) -> Reason:
    with pytest.raises(UsageError) as caught:
        call()
    assert caught.value.mismatches[0].field == str(path)
    return caught.value.reason


def test_a_regular_file_is_read_up_to_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"12345")
    assert read_once(str(path), 5) == b"12345"
    assert _refused(lambda: read_once(str(path), 4), path) is Reason.TOO_LARGE
    path.write_bytes(b"")
    assert read_once(str(path), 0) == b""


def test_T10_a_symbolic_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x")
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "f")
    assert _refused(lambda: read_once(str(link), 10), link) is Reason.USAGE
    (tmp_path / "d").symlink_to(tmp_path)
    assert read_once(str(tmp_path / "d" / "f"), 10) == b"x"


def test_T10_a_fifo_is_refused_without_waiting_for_its_writer(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    assert _refused(lambda: read_once(str(path), 10), path) is Reason.USAGE


@pytest.mark.parametrize("path", ["/dev/null", "/dev/zero", "/tmp", "/", "/nonexistent", "", "a\x00b"])
def test_T10_what_is_no_regular_file_is_refused(path: str) -> None:
    field = path.replace("\x00", "\\u{0}")
    assert _refused(lambda: read_once(path, 10), field) is Reason.USAGE


class _Change:
    """Runs `action` once between the check of a file and its first read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, action: Any) -> None:
        real = os.read

        def read(descriptor: int, size: int) -> bytes:
            monkeypatch.setattr(os, "read", real)
            action()
            return real(descriptor, size)

        monkeypatch.setattr(os, "read", read)


def test_T10_a_file_that_grows_while_it_is_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"12345")
    _Change(monkeypatch, lambda: path.write_bytes(b"123456"))
    assert _refused(lambda: read_once(str(path), 100), path) is Reason.USAGE
    _Change(monkeypatch, lambda: path.write_bytes(b"1" * 1000))
    assert _refused(lambda: read_once(str(path), 100), path) is Reason.USAGE


def test_T10_a_file_that_changes_in_place_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"12345")
    os.utime(path, ns=(0, 0))
    _Change(monkeypatch, lambda: path.write_bytes(b"54321"))
    assert _refused(lambda: read_once(str(path), 100), path) is Reason.USAGE


def test_T10_a_swapped_file_does_not_change_what_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"checked")
    (tmp_path / "evil").write_bytes(b"swapped")
    _Change(monkeypatch, lambda: (tmp_path / "evil").rename(path))
    assert read_once(str(path), 100) == b"checked"


def test_T10_a_writer_beside_the_reader_is_seen_or_not_there(tmp_path: Path) -> None:
    """Without any hook: each read is one state of the file, never a mixture of two, or a refusal."""
    path = tmp_path / "f"
    path.write_bytes(b"a" * 200_000)
    stop = threading.Event()

    def rewrite() -> None:
        letters = b"ab"
        while not stop.is_set():
            letters = letters[::-1]
            path.write_bytes(letters[:1] * 200_000)

    writer = threading.Thread(target=rewrite)
    writer.start()
    try:
        for _ in range(300):
            try:
                data = read_once(str(path), 1 << 20)
            except UsageError:
                continue
            assert len(set(data)) <= 1
    finally:
        stop.set()
        writer.join()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o620, 0o601])
def test_C1_a_secret_that_others_may_touch_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"secret")
    path.chmod(mode)
    assert _refused(lambda: read_secret(str(path), 100), path) is Reason.USAGE


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_secret_of_ours_is_read(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"secret")
    path.chmod(mode)
    assert read_secret(str(path), 100) == b"secret"


@pytest.mark.skipif(os.geteuid() != 0, reason="giving a file away needs root")
def test_C1_a_secret_of_another_user_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"secret")
    path.chmod(0o600)
    os.chown(path, 4242, 4242)
    assert _refused(lambda: read_secret(str(path), 100), path) is Reason.USAGE


def test_a_new_file_has_its_bytes_and_mode_whatever_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o077)
    try:
        write_new(str(tmp_path / "secret"), b"1")
        write_new(str(tmp_path / "public"), b"2", 0o644)
    finally:
        os.umask(old)
    assert (tmp_path / "secret").read_bytes() == b"1"
    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "public").stat().st_mode) == 0o644
    assert sorted(os.listdir(tmp_path)) == ["public", "secret"]


def test_C3_nothing_is_clobbered_and_no_link_followed(tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.write_bytes(b"old")
    dangling, link = tmp_path / "dangling", tmp_path / "link"
    dangling.symlink_to(tmp_path / "elsewhere")
    link.symlink_to(there)
    for path in (there, dangling, link, tmp_path):
        assert _refused(lambda path=path: write_new(str(path), b"new"), path) is Reason.USAGE
    assert there.read_bytes() == b"old"
    assert sorted(os.listdir(tmp_path)) == ["dangling", "link", "there"]


@pytest.mark.parametrize("path", ["/nonexistent/f", "/dev/stdout", "/proc/f", "a\x00b"])
def test_C3_where_no_file_can_be_made_is_refused(path: str) -> None:
    field = path.replace("\x00", "\\u{0}")
    for write in (write_new, write_atomic):
        if (write, path) != (write_atomic, "/dev/stdout"):  # as root this would replace the device
            assert _refused(lambda write=write: write(path, b"x"), field) is Reason.USAGE


def test_an_atomic_write_replaces_the_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"old")
    before = path.open("rb")
    write_atomic(str(path), b"new", 0o640)
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert before.read() == b"old"
    before.close()
    assert os.listdir(tmp_path) == ["f"]


def test_an_atomic_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    path = tmp_path / "directory"
    assert _refused(lambda: write_atomic(str(path), b"new"), path) is Reason.USAGE
    assert os.listdir(tmp_path) == ["directory"]


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    path = tmp_path / "f"
    for write in (write_new, write_atomic):
        assert _refused(lambda write=write: write(str(path), b"new"), path) is Reason.USAGE
    assert os.listdir(tmp_path) == []


def test_a_folder_is_made_with_exactly_its_files(tmp_path: Path) -> None:
    place = tmp_path / "chart"
    write_folder(str(place), {"a": b"1", "b/c": b"2"}, 0o644)
    assert {str(each.relative_to(place)) for each in place.rglob("*")} == {"a", "b", "b/c"}
    assert (place / "b/c").read_bytes() == b"2" and stat.S_IMODE((place / "a").stat().st_mode) == 0o644
    assert os.listdir(tmp_path) == ["chart"]


def test_C3_a_folder_replaces_nothing_and_is_whole_or_not_there(tmp_path: Path) -> None:
    for there in (tmp_path / "empty", tmp_path / "file"):
        there.mkdir() if there.name == "empty" else there.touch()
        assert _refused(lambda there=there: write_folder(str(there), {"a": b"1"}), there) is Reason.USAGE
    assert _refused(lambda: write_folder(str(tmp_path / "new"), {"a\0": b""}), tmp_path / "new")
    assert sorted(os.listdir(tmp_path)) == ["empty", "file"] and os.listdir(tmp_path / "empty") == []
