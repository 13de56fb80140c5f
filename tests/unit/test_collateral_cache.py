"""host.collateral_cache on a real disk: restarts, damage, loss of the marks, several processes."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from support.collateral import crl
from support.snp import NOW as SNP_NOW
from support.snp import amd, chip
from support.tdx import NOW, PKI

from toposeal.errors import EvidenceError, Reason, ToposealError, UsageError
from toposeal.evidence.collateral import parse_collateral
from toposeal.evidence.snp_certs import KeyKind
from toposeal.evidence.snp_tcb import Product
from toposeal.host import collateral_cache
from toposeal.host.collateral_cache import CollateralCache
from toposeal.verification.high_water import Marks, parse_marks
from toposeal_lab.simtdx import LabPki

ANCHORS = replace(PKI.anchors(), amd_roots=amd().anchors().amd_roots)
COLLATERAL, CRL = PKI.collateral(), amd().crl()
ENTRY = f"tdx-{PKI.fmspc.hex()}.json"
LIST = f"crl-{Product.GENOA}-{KeyKind.VCEK}.der"
GENOA = (Product.GENOA, KeyKind.VCEK)
Open = Callable[[], CollateralCache]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def said() -> list[tuple[str, Reason]]:
    return []


@pytest.fixture
def opened(folder: Path, said: list[tuple[str, Reason]]) -> Open:
    def say(name: str, error: ToposealError) -> None:
        said.append((name, error.reason))

    return lambda: CollateralCache(str(folder), ANCHORS, say)


def test_it_survives_a_restart(opened: Open, folder: Path, said: list[object]) -> None:
    first = opened()
    first.store_tdx(COLLATERAL, NOW)
    first.store_list(CRL, *GENOA, SNP_NOW)
    first.store_chain(chip().chain, *GENOA)
    first.store_vcek(chip().certificate, Product.GENOA, chip().chip_id, chip().tcb)
    again = opened()
    assert [each.entry for each in again.load_tdx(NOW)] == [COLLATERAL]
    found = again.load_list(*GENOA, SNP_NOW)
    assert found is not None and found.der == CRL
    assert again.load_chain(*GENOA) == chip().chain
    assert again.load_vcek(Product.GENOA, chip().chip_id, chip().tcb) == chip().certificate
    assert again.marks == first.marks != Marks()
    assert said == []
    assert {oct(path.stat().st_mode & 0o777) for path in folder.iterdir()} == {"0o600"}
    assert oct(folder.stat().st_mode & 0o777) == "0o700"


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def test_what_was_never_stored_is_not_there(opened: Open, said: list[object]) -> None:
    cache = opened()
    assert cache.load_tdx(NOW) == ()
    assert cache.load_list(*GENOA, SNP_NOW) is None
    assert cache.load_chain(*GENOA) is None
    assert cache.load_vcek(Product.GENOA, chip().chip_id, chip().tcb) is None
    assert said == []


def test_another_process_finds_it(opened: Open, folder: Path) -> None:
    opened().store_tdx(COLLATERAL, NOW)
    script = (
        "import sys; from toposeal.host.collateral_cache import CollateralCache as C\n"
        "from toposeal.verification.model import TrustAnchors as T\n"
        "cache = C(sys.argv[1], T(bytes.fromhex(sys.argv[2])))\n"
        "print(len(cache.load_tdx(int(sys.argv[3]))), *cache.marks.evaluations.values())"
    )
    command = [sys.executable, "-I", "-c", script, str(folder), PKI.root_der.hex(), str(NOW)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "1 20\n"


def test_E9_older_collateral_is_refused_after_a_restart(opened: Open) -> None:
    opened().store_tdx(PKI.collateral(evaluation=21), NOW)
    cache = opened()
    with pytest.raises(EvidenceError) as refused:
        cache.store_tdx(COLLATERAL, NOW)
    assert refused.value.reason is Reason.COLLATERAL_ROLLBACK
    assert [each.evaluation for each in cache.load_tdx(NOW)] == [21]


def test_E9_an_older_file_put_back_is_absent(
    opened: Open, folder: Path, said: list[tuple[str, Reason]]
) -> None:
    opened().store_tdx(COLLATERAL, NOW)
    old = (folder / ENTRY).read_bytes()
    opened().store_tdx(PKI.collateral(evaluation=21), NOW)
    (folder / ENTRY).write_bytes(old)
    assert opened().load_tdx(NOW) == ()
    assert said == [(ENTRY, Reason.COLLATERAL_ROLLBACK)]


def test_E9_an_older_list_put_back_is_absent(
    opened: Open, folder: Path, said: list[tuple[str, Reason]]
) -> None:
    cache = opened()
    found = cache.store_list(CRL, *GENOA, SNP_NOW)
    newer = replace(found, age=replace(found.age, number=9))
    marks = parse_marks((folder / "marks.json").read_bytes()).raised_by_list(newer, KeyKind.VCEK)
    (folder / "marks.json").write_bytes(marks.dump())
    assert opened().load_list(*GENOA, SNP_NOW) is None
    assert said == [(LIST, Reason.COLLATERAL_ROLLBACK)]
    with pytest.raises(EvidenceError):
        opened().store_list(CRL, *GENOA, SNP_NOW)


def test_E10_a_strangers_collateral_raises_no_mark(opened: Open, folder: Path) -> None:
    cache = opened()
    foreign = LabPki.create(NOW).collateral(evaluation=99)
    with pytest.raises(EvidenceError):
        cache.store_tdx(foreign, NOW)
    with pytest.raises(EvidenceError):
        cache.store_list(amd().crl(signer=amd().keys.ask), *GENOA, SNP_NOW)
    assert cache.marks == parse_marks((folder / "marks.json").read_bytes()) == Marks()


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-20]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"\0" * 1_000),
        lambda path: path.write_bytes(bytes(300 << 10)),
        lambda path: (path.unlink(), path.symlink_to("marks.json")),
        lambda path: (path.unlink(), path.mkdir()),
        _pipe,
    ],
    ids=["truncated", "empty", "zeros", "large", "link", "directory", "pipe"],
)
@pytest.mark.parametrize("name", [ENTRY, LIST])
def test_F6_a_damaged_file_is_absent_and_said(
    opened: Open, folder: Path, said: list[tuple[str, Reason]], damage: Callable[[Path], object], name: str
) -> None:
    cache = opened()
    cache.store_tdx(COLLATERAL, NOW)
    cache.store_list(CRL, *GENOA, SNP_NOW)
    damage(folder / name)
    again = opened()
    assert (again.load_tdx(NOW) == ()) is (name == ENTRY)
    assert (again.load_list(*GENOA, SNP_NOW) is None) is (name == LIST)
    assert [found for found, _ in said] == [name]


def test_what_is_out_of_date_is_absent(opened: Open, said: list[tuple[str, Reason]]) -> None:
    opened().store_tdx(COLLATERAL, NOW)
    assert opened().load_tdx(NOW + 40 * 86_400) == ()
    assert said == [(ENTRY, Reason.COLLATERAL_INVALID)]


@pytest.mark.parametrize(
    "harm",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-5]),
        lambda path: path.write_bytes(b'{"version":1,"evaluations":{},"lists":[]}'),
        lambda path: (path.unlink(), path.symlink_to("elsewhere")),
    ],
    ids=["missing", "empty", "truncated", "other", "link"],
)
def test_E9_lost_marks_beside_entries_refuse_the_cache(
    opened: Open, folder: Path, harm: Callable[[Path], object]
) -> None:
    opened().store_tdx(COLLATERAL, NOW)
    harm(folder / "marks.json")
    with pytest.raises(UsageError, match="begin anew") as refused:
        opened()
    assert refused.value.reason is Reason.COLLATERAL_ROLLBACK


def unlistable(directory: str) -> list[str]:
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def test_E9_a_directory_that_cannot_be_listed_costs_no_marks(
    opened: Open, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The marks are opened by their name: no listing says that there are none."""
    opened().store_tdx(COLLATERAL, NOW)
    marks = (folder / "marks.json").read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr("os.listdir", unlistable)
        with pytest.raises(UsageError, match="Too many open files"):
            opened()
        (folder / "marks.json").unlink()
        with pytest.raises(UsageError, match="Too many open files"):
            opened()
        assert not (folder / "marks.json").exists()
    (folder / "marks.json").write_bytes(marks)
    monkeypatch.setattr("os.listdir", lambda _: [])
    assert opened().marks == parse_marks(marks) != Marks()
    assert (folder / "marks.json").read_bytes() == marks
    (folder / "marks.json").write_bytes(marks[:-5])
    with pytest.raises(UsageError, match="begin anew"):
        opened()


def test_S8_what_another_has_raised_is_kept_where_the_directory_cannot_be_listed(
    opened: Open, folder: Path, said: list[tuple[str, Reason]], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = opened()
    opened().store_tdx(PKI.collateral(tcb={"fmspc": "00" * 6}, evaluation=21), NOW)
    monkeypatch.setattr("os.listdir", unlistable)
    assert ours.store_tdx(COLLATERAL, NOW).evaluation == 20
    found = parse_marks((folder / "marks.json").read_bytes())
    assert found == ours.marks
    assert found.evaluations == {"00" * 6: 21, PKI.fmspc.hex(): 20}
    assert ours.load_tdx(NOW) == ()
    assert said == [(ENTRY, Reason.USAGE), (".", Reason.USAGE)]


def test_S8_marks_of_this_process_stay_whatever_becomes_of_the_file(opened: Open, folder: Path) -> None:
    cache = opened()
    cache.store_tdx(PKI.collateral(evaluation=21), NOW)
    for path in folder.iterdir():
        path.unlink()
    with pytest.raises(EvidenceError) as refused:
        cache.store_tdx(COLLATERAL, NOW)
    assert refused.value.reason is Reason.COLLATERAL_ROLLBACK
    cache.store_chain(chip().chain, *GENOA)
    assert opened().marks == cache.marks


def test_S8_two_processes_raise_the_marks_together(opened: Open) -> None:
    one, other = opened(), opened()
    one.store_tdx(PKI.collateral(evaluation=21), NOW)
    other.store_tdx(PKI.collateral(tcb={"fmspc": "00" * 6}), NOW)
    assert other.marks.evaluations == {PKI.fmspc.hex(): 21, "00" * 6: 20}
    assert opened().marks == other.marks


def test_S8_one_writer_at_a_time(opened: Open, folder: Path) -> None:
    cache = opened()
    stored = threading.Thread(target=cache.store_tdx, args=(COLLATERAL, NOW))
    with (folder / "lock").open() as held:
        fcntl.flock(held, fcntl.LOCK_SH)
        stored.start()
        stored.join(0.3)
        assert not (folder / ENTRY).exists()
    stored.join(10)
    assert (folder / ENTRY).exists()


def test_families_stored_at_different_times_survive_together(
    opened: Open, said: list[tuple[str, Reason]]
) -> None:
    """The younger list of the second is above the mark of the first's own, which is the same list's."""
    cache = opened()
    cache.store_tdx(PKI.collateral(tcb={"fmspc": "00" * 6}), NOW)
    younger = crl(PKI.platform_ca, days=1)
    cache.store_tdx(PKI.collateral(parts={"pck_crl": younger.hex()}), NOW)
    found = opened().load_tdx(NOW)
    assert [each.fmspc for each in found] == [bytes(6), PKI.fmspc]
    assert {parse_collateral(each.entry).pck_crl.der for each in found} == {younger}
    assert said == []


def test_F6_what_cannot_be_removed_is_said(
    opened: Open, folder: Path, said: list[tuple[str, Reason]], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened()
    (folder / "x.new-0123456789abcdef").mkdir()
    monkeypatch.setattr(collateral_cache, "MAX_CACHED_FILES", 1)
    (folder / "crl-x.der").mkdir()
    opened().store_tdx(COLLATERAL, NOW)
    assert said == [("x.new-0123456789abcdef", Reason.USAGE), ("crl-x.der", Reason.USAGE)]


def test_F6_a_disk_that_takes_nothing_ends_nothing(
    opened: Open, said: list[tuple[str, Reason]], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = opened()

    def full(path: str, data: bytes, mode: int) -> None:
        raise UsageError.of(Reason.USAGE, path, "No space left on device", "room")

    monkeypatch.setattr(collateral_cache, "write_atomic", full)
    assert cache.store_tdx(PKI.collateral(evaluation=21), NOW).evaluation == 21
    assert said == [(ENTRY, Reason.USAGE)]
    with pytest.raises(EvidenceError):
        cache.store_tdx(COLLATERAL, NOW)


def test_F6_a_crash_while_writing_leaves_marks_and_no_rubbish(
    opened: Open, folder: Path, said: list[tuple[str, Reason]]
) -> None:
    opened().store_tdx(COLLATERAL, NOW)
    (folder / f"{ENTRY}.new-0123456789abcdef").write_bytes(b"half")
    assert len(opened().load_tdx(NOW)) == 1
    assert not [path for path in folder.iterdir() if ".new-" in path.name]
    assert said == []


def test_L4_files_are_bounded_and_the_oldest_go_first(
    opened: Open, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collateral_cache, "MAX_CACHED_FILES", 3)
    cache = opened()
    for number in range(4):
        cache.store_vcek(b"x", Product.GENOA, bytes([number + 1]) * 64, chip().tcb)
        newest = max(folder.glob("vcek-*"), key=lambda path: path.stat().st_ctime_ns)
        os.utime(newest, (number, number))
    cache.store_tdx(COLLATERAL, NOW)
    kept = sorted(path.name.split("-")[2][:2] for path in folder.glob("vcek-*"))
    assert kept == ["03", "04"]
    assert (folder / ENTRY).exists() and (folder / "marks.json").exists()


def test_chips_and_tcb_versions_have_files_of_their_own(opened: Open) -> None:
    cache = opened()
    cache.store_vcek(b"one", Product.GENOA, chip().chip_id, chip().tcb)
    cache.store_vcek(b"two", Product.GENOA, chip().chip_id, replace(chip().tcb, snp=26))
    assert cache.load_vcek(Product.GENOA, chip().chip_id, chip().tcb) == b"one"
    assert cache.load_vcek(Product.GENOA, bytes([9]) * 64, chip().tcb) is None


def test_V9_a_place_that_is_no_directory_is_the_callers_mistake(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UsageError):
            CollateralCache(str(path), ANCHORS)
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / "lock").symlink_to("elsewhere")
    with pytest.raises(UsageError, match="lock"):
        CollateralCache(str(linked), ANCHORS)


def test_V9_a_file_system_without_locks_is_the_callers_mistake(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_locks(descriptor: int, operation: int) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.flock", without_locks)
    with pytest.raises(UsageError, match="locked"):
        CollateralCache(str(folder), ANCHORS)


def test_the_journal_names_the_file(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    cache = CollateralCache(str(folder), ANCHORS)
    cache.store_tdx(COLLATERAL, NOW)
    (folder / ENTRY).write_bytes(b"{}")
    assert cache.load_tdx(NOW) == ()
    line = json.loads(capfd.readouterr().out)
    assert (line["event"], line["file"], line["reason"]) == ("collateral_file", ENTRY, "collateral_invalid")


def test_a_directory_that_vanishes_is_said(
    opened: Open, folder: Path, said: list[tuple[str, Reason]]
) -> None:
    cache = opened()
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    assert cache.load_tdx(NOW) == ()
    assert cache.store_tdx(COLLATERAL, NOW).evaluation == 20
    assert [reason for _, reason in said] == [Reason.USAGE, Reason.USAGE]
