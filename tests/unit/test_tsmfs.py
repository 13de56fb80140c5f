"""The lab's file system behaves as configfs-tsm was measured to behave on Linux 6.12, step by step.

`soft` shows every attribute that the kernel knows and answers with text, as the module did with which
the kernel was measured; `tdx` shows and answers what a TDX guest sees.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from support.snp import chip, guest
from support.tdx import HOST, PKI, PPID, WEB
from support.tsm import read, require_fuse, served, write

from toposeal.evidence.snp_report import parse_snp_report
from toposeal.evidence.tdx_quote import parse_tdx_quote
from toposeal_lab.tsm import ReportDirectory
from toposeal_lab.tsm_config import SnpTee, TdxTee, Tee, TsmConfig
from toposeal_lab.tsm_faults import Fault, Faults
from toposeal_lab.tsm_mount import mounted
from toposeal_lab.tsm_providers import ATTRIBUTES, Blobs, SnpProvider, TdxProvider

A = b"a" * 64


class SoftProvider:
    name = "soft_guest"
    attributes = frozenset(ATTRIBUTES)
    privlevel_floor = 0

    def report(self, inblob: bytes, privlevel: int) -> Blobs:
        return Blobs(b"S|%d|" % privlevel + inblob + hashlib.sha384(inblob).digest())


class CountingProvider(SoftProvider):
    """Numbers its requests in auxblob."""

    def __init__(self) -> None:
        self._count = 0

    def report(self, inblob: bytes, privlevel: int) -> Blobs:
        self._count += 1
        return Blobs(inblob, b"%d" % self._count)


@pytest.fixture(scope="module")
def mount() -> Iterator[Path]:
    directories = {
        "soft": ReportDirectory(SoftProvider(), Faults()),
        "tdx": ReportDirectory(TdxProvider(HOST, WEB), Faults()),
        "snp": ReportDirectory(SnpProvider(chip(), guest(vmpl=1), b"table"), Faults()),
        "counted": ReportDirectory(CountingProvider(), Faults()),
        "none": ReportDirectory(None, Faults()),
        "slow": ReportDirectory(SoftProvider(), Faults([Fault("outblob", "ETIMEDOUT")])),
        "chowned": ReportDirectory(SoftProvider(), Faults()),
    }
    with served(directories) as mountpoint:
        yield mountpoint


@pytest.fixture
def entry(mount: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    path = mount / "soft" / request.node.name[:40]
    path.mkdir()
    yield path
    if path.exists():
        path.rmdir()


def refused(call: Callable[..., object], *arguments: object) -> str:
    with pytest.raises(OSError) as error:
        call(*arguments)
    return errno.errorcode[error.value.errno or 0]


def generation(entry: Path) -> int:
    return int(read(entry / "generation"))


def test_attributes_have_the_kernels_modes_and_sizes(entry: Path) -> None:
    shown = {path.name: (stat.S_IMODE(path.stat().st_mode), path.stat().st_size) for path in entry.iterdir()}
    assert shown == {
        "auxblob": (0o444, 0),
        "generation": (0o444, 4096),
        "inblob": (0o200, 0),
        "outblob": (0o444, 0),
        "privlevel": (0o200, 4096),
        "privlevel_floor": (0o444, 4096),
        "provider": (0o444, 4096),
    }
    assert stat.S_IMODE(entry.stat().st_mode) == stat.S_IMODE(entry.parent.stat().st_mode) == 0o755
    assert (entry.stat().st_uid, (entry / "inblob").stat().st_uid, entry.stat().st_nlink) == (0, 0, 2)


def test_a_tdx_guest_sees_four_attributes(mount: Path) -> None:
    entry = mount / "tdx" / "four"
    entry.mkdir()
    assert sorted(path.name for path in entry.iterdir()) == ["generation", "inblob", "outblob", "provider"]
    assert read(entry / "provider") == b"tdx_guest\n"
    write(entry / "inblob", A)
    assert parse_tdx_quote(read(entry / "outblob")).report_data == A
    write(entry / "inblob", A[:63])
    assert refused(read, entry / "outblob") == "EINVAL"
    entry.rmdir()


def test_an_snp_guest_sees_its_level_and_the_hosts_certificates(mount: Path) -> None:
    entry = mount / "snp" / "seven"
    entry.mkdir()
    assert sorted(path.name for path in entry.iterdir()) == sorted(ATTRIBUTES)
    assert (read(entry / "provider"), read(entry / "privlevel_floor")) == (b"sev_guest\n", b"1\n")
    write(entry / "inblob", A)
    assert refused(read, entry / "outblob") == "EINVAL"  # level 0 is not this guest's
    assert refused(write, entry / "privlevel", b"0\n") == "EINVAL"
    write(entry / "privlevel", b"1\n")
    assert read(entry / "auxblob") == b"table"
    report = parse_snp_report(read(entry / "outblob"))
    assert (report.report_data, report.vmpl) == (A, 1)
    assert generation(entry) == 2
    entry.rmdir()


def test_blobs_of_one_generation_are_of_one_request(mount: Path) -> None:
    entry = mount / "counted" / "entry"
    entry.mkdir()
    write(entry / "inblob", A)
    assert (read(entry / "auxblob"), read(entry / "outblob"), read(entry / "auxblob")) == (b"1", A, b"1")
    write(entry / "inblob", A)
    assert (read(entry / "outblob"), read(entry / "auxblob")) == (A, b"2")
    entry.rmdir()


def test_a_driver_is_not_registered_over_what_another_left() -> None:
    directory = ReportDirectory(SoftProvider(), Faults())
    directory.mkdir("left")
    directory.register(None)
    with pytest.raises(OSError, match="no provider"):
        directory.mkdir("more")
    with pytest.raises(OSError, match="not empty"):
        directory.register(SoftProvider())
    directory.rmdir("left")
    directory.register(SoftProvider())
    directory.mkdir("more")


@pytest.mark.parametrize(("at", "effect"), [("outblob", "EPERM"), ("outblob", ""), ("rmdir", "EBUSY")])
def test_a_fault_that_the_lab_does_not_know_is_refused(at: str, effect: str) -> None:
    with pytest.raises(ValueError, match="no fault"):
        Fault(at, effect)


def test_inblob_is_committed_by_close(entry: Path) -> None:
    assert generation(entry) == 0
    assert refused(read, entry / "outblob") == "EINVAL"
    file = os.open(entry / "inblob", os.O_WRONLY)
    assert os.write(file, A) == 64
    assert generation(entry) == 0
    assert refused(read, entry / "outblob") == "EINVAL"
    os.close(file)
    assert generation(entry) == 1
    assert read(entry / "outblob")[:6] == b"S|0|aa"
    assert read(entry / "outblob") == read(entry / "outblob")
    assert generation(entry) == 1


def test_chunks_are_joined(entry: Path) -> None:
    file = os.open(entry / "inblob", os.O_WRONLY)
    os.write(file, b"b" * 32)
    os.write(file, b"c" * 32)
    os.close(file)
    assert generation(entry) == 1
    assert read(entry / "outblob")[4:68] == b"b" * 32 + b"c" * 32


def test_too_much_is_refused_and_still_committed(entry: Path) -> None:
    file = os.open(entry / "inblob", os.O_WRONLY)
    os.write(file, b"b" * 40)
    assert refused(os.write, file, b"c" * 40) == "EFBIG"
    os.close(file)
    assert generation(entry) == 1
    assert read(entry / "outblob")[4:44] == b"b" * 40
    file = os.open(entry / "inblob", os.O_WRONLY)
    assert refused(os.write, file, b"x" * 65) == "EFBIG"
    os.close(file)
    assert generation(entry) == 2
    assert refused(read, entry / "outblob") == "EINVAL"


def test_close_without_a_write_commits_nothing(entry: Path) -> None:
    os.close(os.open(entry / "inblob", os.O_WRONLY))
    os.close(os.open(entry / "inblob", os.O_WRONLY | os.O_TRUNC | os.O_CREAT))
    assert generation(entry) == 0


@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_RDWR])
def test_inblob_is_never_read_not_even_by_root(mount: Path, flags: int) -> None:
    entry = mount / "soft" / f"never-{flags}"
    entry.mkdir()
    assert refused(os.open, entry / "inblob", flags) == "EACCES"
    assert refused(os.open, entry / "outblob", os.O_WRONLY) == "EACCES"
    entry.rmdir()


def test_an_open_outblob_keeps_its_snapshot(entry: Path) -> None:
    write(entry / "inblob", b"p" * 64)
    file = os.open(entry / "outblob", os.O_RDONLY)
    assert os.read(file, 10) == b"S|0|pppppp"
    write(entry / "inblob", b"q" * 64)
    assert os.read(file, 12) == b"p" * 12
    os.close(file)
    assert read(entry / "outblob")[4:6] == b"qq"


def test_privlevel_takes_effect_at_once(entry: Path) -> None:
    assert refused(write, entry / "privlevel", b"4\n") == "EINVAL"
    assert refused(write, entry / "privlevel", b"\x02") == "EINVAL"
    assert generation(entry) == 0
    write(entry / "privlevel", b"2\n")
    assert generation(entry) == 1
    write(entry / "inblob", A)
    assert read(entry / "outblob")[:4] == b"S|2|"
    assert read(entry / "auxblob") == b""
    assert read(entry / "privlevel_floor") == b"0\n"


def test_the_drivers_error_surfaces_at_read_and_a_retry_asks_again(mount: Path) -> None:
    entry = mount / "slow" / "entry"
    entry.mkdir()
    write(entry / "inblob", b"z" * 64)
    assert refused(read, entry / "outblob") == "ETIMEDOUT"
    assert read(entry / "outblob")[4:6] == b"zz"
    entry.rmdir()


def test_nothing_but_entries_can_be_made(entry: Path, mount: Path) -> None:
    assert refused(entry.mkdir) == "EEXIST"
    assert refused((entry / "x").mkdir) == "EPERM"
    assert refused((mount / "pod").mkdir) == "EPERM"
    assert refused(entry.rename, entry.parent / "other") == "EPERM"
    assert refused((entry.parent / "link").symlink_to, "/tmp") == "EPERM"
    assert refused(os.link, entry / "outblob", entry.parent / "link") == "EPERM"
    assert refused((entry / "outblob").unlink) == "EPERM"
    assert refused((entry / "new").touch) == "EACCES"
    assert refused((mount / "none" / "entry").mkdir) == "ENXIO"
    assert refused((mount / "soft" / ("n" * 256)).mkdir) == "ENAMETOOLONG"
    for name in ("n" * 255, "n" * 39):
        (mount / "soft" / name).mkdir()
        (mount / "soft" / name).rmdir()
    assert refused((entry.parent / "absent").rmdir) == "ENOENT"
    assert refused((mount / "absent").iterdir().__next__) == "ENOENT"


def test_an_entry_goes_with_its_files_open(entry: Path) -> None:
    file = os.open(entry / "inblob", os.O_WRONLY)
    os.write(file, A)
    entry.rmdir()
    os.close(file)
    assert not entry.exists()


def as_nobody(script: str) -> str:
    """The errno name, or the output, of a script run without any privilege."""
    child = subprocess.run(
        ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=False,
    )
    return child.stderr.strip().rsplit("\n", 1)[-1] if child.returncode else child.stdout.strip()


def test_strangers_are_refused_until_single_attributes_are_given_to_them(entry: Path) -> None:
    use = f"open({str(entry / 'inblob')!r}, 'wb', 0).write(b'u' * 64)"
    assert "PermissionError" in as_nobody(use)
    assert "PermissionError" in as_nobody(f"import os; os.mkdir({str(entry.parent / 'u')!r})")
    os.chown(entry / "inblob", 65534, 65534)
    assert as_nobody(use) == ""
    assert generation(entry) == 1
    assert "PermissionError" in as_nobody(f"open({str(entry / 'privlevel')!r}, 'wb', 0)")


def test_a_given_report_directory_still_makes_entries_of_root(mount: Path) -> None:
    os.chown(mount / "chowned", 65534, 65534)
    os.chmod(mount / "chowned", 0o755)
    made = mount / "chowned" / "u"
    assert as_nobody(f"import os; os.mkdir({str(made)!r})") == ""
    assert (made.stat().st_uid, (made / "inblob").stat().st_uid) == (0, 0)
    assert "PermissionError" in as_nobody(f"open({str(made / 'inblob')!r}, 'wb', 0)")
    made.rmdir()


def test_entries_do_not_disturb_one_another(mount: Path) -> None:
    def use(index: int) -> None:
        entry = mount / "soft" / f"thread-{index}"
        entry.mkdir()
        for _ in range(20):
            nonce = os.urandom(64)
            write(entry / "inblob", nonce)
            assert read(entry / "outblob")[4:68] == nonce
        entry.rmdir()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(use, range(8)))


def test_the_configuration_survives_its_file() -> None:
    faults = (Fault("outblob", "EBUSY", 2), Fault("commit", "swallow"))
    snp = SnpTee(guest(vmpl=1), chip(), b"table", faults)
    tdx = {"web": TdxTee(WEB, PPID, faults), "db": TdxTee(replace(WEB), bytes(16))}
    pods: dict[str, Tee] = {**tdx, "api": snp}
    config = TsmConfig(PKI, pods, 40)
    loaded = TsmConfig.load(config.dump())
    assert loaded.dump() == config.dump()
    assert [loaded.pods[name] for name in ("web", "db")] == [pods["web"], pods["db"]]
    directory = loaded.directories()["api"]
    directory.mkdir("entry")
    entry = directory.entries["entry"]
    entry.write_privlevel(b"1\n")
    entry.commit(A)
    with pytest.raises(OSError, match="scripted EBUSY"):
        entry.read("outblob")
    assert loaded.pki.root_der == PKI.root_der


@pytest.mark.parametrize(
    "state", [{}, {"pki": {}, "pods": {}}, {"pods": {"web": {}}}, {"pods": {"web": {"kind": "sgx"}}}]
)
def test_another_configuration_is_refused(state: dict[str, object]) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        TsmConfig.load(json.dumps(state).encode())


def test_it_runs_as_a_process_of_its_own(tmp_path: Path) -> None:
    require_fuse()
    config = TsmConfig(PKI, {"web": TdxTee(WEB, PPID)}, delay_ms=1)
    with mounted(config, tmp_path) as mountpoint:
        entry = mountpoint / "web" / "entry"
        entry.mkdir()
        write(entry / "inblob", A)
        assert parse_tdx_quote(read(entry / "outblob")).user_data[:16] == PPID
        entry.rmdir()
    assert not os.path.ismount(mountpoint)
