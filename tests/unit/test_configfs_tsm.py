"""The reader of configfs-tsm against a real file system that misbehaves as a kernel or a host can."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from _pytest.mark.structures import ParameterSet
from support.snp import WEB as SNP_WEB
from support.snp import chip, guest
from support.tdx import HOST, WEB
from support.tsm import served

from toposeal.errors import QuoteSourceError, Reason
from toposeal.evidence.ghcb_table import parse_certificate_table
from toposeal.evidence.snp_report import parse_snp_report
from toposeal.evidence.tdx_quote import parse_tdx_quote
from toposeal.host.configfs_tsm import ConfigfsTsm
from toposeal.host.tee_report import TeeReport
from toposeal.limits import DAEMON_UID, MAX_CERTIFICATE_TABLE_SIZE, MAX_QUOTE_SIZE
from toposeal_lab.simsnp import HostTable, host_table
from toposeal_lab.tsm import LEFTOVER, ReportDirectory
from toposeal_lab.tsm_faults import EFFECTS, Fault, Faults
from toposeal_lab.tsm_providers import ATTRIBUTES, Blobs, Provider, SnpProvider, TdxProvider

REPORT_DATA = bytes(range(64))
DEADLINE = 5.0
SHORT = 0.25
PASSES = None  # one more attempt, or a little patience, helps
WIPED = "ENOTTY: the key to the security processor is wiped until the next boot"

# Every fault of the lab: what it leads to when it happens once. A text is what was found, by the refusal,
# which is at once: of the kernel's errors the beginning, code and colon.
FAULT_10 = {
    ("mkdir", "ENXIO"): "ENXIO:",
    ("mkdir", "ENOENT"): "ENOENT:",
    ("mkdir", "EACCES"): "EACCES:",
    ("mkdir", "EEXIST"): PASSES,
    ("mkdir", "ENOSPC"): PASSES,
    ("mkdir", "ENOMEM"): PASSES,
    ("mkdir", "leftover"): PASSES,
}
FAULT_11 = {("outblob", "EBUSY"): PASSES, ("outblob", "in-flight"): PASSES, ("auxblob", "EBUSY"): PASSES}
FAULT_12 = {
    ("provider", "foreign"): b"arm_cca_guest".hex(),
    ("provider", "garbage"): "fffe00",
    ("provider", "empty"): "",
    ("generation", "jump"): PASSES,
    ("generation", "garbage"): "fffe00",
    ("commit", "swallow"): PASSES,
    ("outblob", "EINTR"): PASSES,
    ("outblob", "ETIMEDOUT"): PASSES,
    ("outblob", "ENOMEM"): PASSES,
    ("outblob", "EIO"): "EIO:",
    ("outblob", "EINVAL"): "EINVAL:",
    ("outblob", "ENXIO"): "ENXIO:",
    ("outblob", "EFBIG"): "EFBIG:",
    ("outblob", "empty"): PASSES,
    ("outblob", "garbage"): PASSES,
    ("outblob", "short"): PASSES,
    ("outblob", "oversized"): f"more than {MAX_QUOTE_SIZE} bytes",
    ("auxblob", "EINTR"): PASSES,
    ("auxblob", "ETIMEDOUT"): PASSES,
    ("auxblob", "ENOMEM"): PASSES,
    ("auxblob", "EIO"): "EIO:",
    ("auxblob", "EINVAL"): "EINVAL:",
    ("auxblob", "ENXIO"): "ENXIO:",
    ("auxblob", "EFBIG"): "EFBIG:",
    ("auxblob", "oversized"): f"more than {MAX_CERTIFICATE_TABLE_SIZE} bytes",
}
FAULT_13 = {
    ("outblob", "ENOTTY"): WIPED,
    ("auxblob", "ENOTTY"): WIPED,
    ("outblob", "wipe"): "EIO:",
    ("outblob", "throttle"): PASSES,
}
RACES = {
    ("commit", "race"): PASSES,
    ("outblob", "race"): PASSES,
    ("outblob", "foreign"): PASSES,
    ("auxblob", "race"): PASSES,
}
SINGLE = FAULT_10 | FAULT_11 | FAULT_12 | FAULT_13 | RACES
HANGS = {"tdx": ("outblob", "hang"), "snp": ("auxblob", "hang")}
# These look different on the two kinds, so each has a test of its own.
SPECIAL = {("outblob", "pad"), ("outblob", "dice"), *(("auxblob", e) for e in ("empty", "garbage", "short"))}
LASTING = [
    ("outblob", "EBUSY"),
    ("outblob", "race"),
    ("outblob", "foreign"),
    ("outblob", "empty"),
    ("commit", "swallow"),
    ("auxblob", "race"),
]
FEW, LASTS = 2, 99


def pod(kind: str, fault: tuple[str, str], times: int = 1) -> str:
    return "-".join((kind, *fault, str(times)))


def on_both(faults: Iterable[tuple[str, str]]) -> list[ParameterSet]:
    """Every fault on every kind that can have it: TDX has no auxblob."""
    cases = [(kind, f) for f in faults for kind in ("tdx", "snp") if kind == "snp" or f[0] != "auxblob"]
    return [pytest.param(kind, f, id="-".join((kind, *f))) for kind, f in cases]


class OtherProvider:
    """A driver of another TEE, or none of ours, with a report as large as it likes."""

    attributes = frozenset(ATTRIBUTES)
    privlevel_floor = 0

    def __init__(self, name: str, size: int) -> None:
        self.name = name
        self._size = size

    def report(self, inblob: bytes, privlevel: int) -> Blobs:
        return Blobs(inblob.ljust(self._size, b"\1"))


def _directories() -> dict[str, ReportDirectory]:
    snp = SnpProvider(chip(), SNP_WEB, host_table(chip(), HostTable.FULL))
    providers: dict[str, Provider] = {"tdx": TdxProvider(HOST, WEB), "snp": snp}
    scripts = [(f, FEW if f in RACES else 1) for f in SINGLE] + [(f, LASTS) for f in LASTING]
    scripts += [(f, LASTS) for f in SPECIAL] + [(f, 1) for f in HANGS.values()]
    made = {
        pod(kind, f, times): ReportDirectory(provider, Faults([Fault(*f, times)]))
        for kind, provider in providers.items()
        for f, times in scripts
    }
    for choice in HostTable:
        provider = SnpProvider(chip(), SNP_WEB, host_table(chip(), choice))
        made[f"table-{choice}"] = ReportDirectory(provider, Faults())
    made |= {kind: ReportDirectory(provider, Faults()) for kind, provider in providers.items()}
    made["svsm"] = ReportDirectory(SnpProvider(chip(), guest(vmpl=2), b""), Faults())
    made["unregistered"] = ReportDirectory(None, Faults())
    made["cca"] = ReportDirectory(OtherProvider("arm_cca_guest", 1184), Faults())
    return made


@pytest.fixture(scope="module")
def mount() -> Iterator[Path]:
    with served(_directories()) as mountpoint:
        yield mountpoint


def ask(mount: Path, name: str, deadline: float = DEADLINE) -> TeeReport:
    """A report from `name`; whatever happens, no entry of ours is left behind."""
    try:
        return ConfigfsTsm(str(mount / name)).report(REPORT_DATA, deadline)
    finally:
        assert [path.name for path in (mount / name).iterdir()] in ([], [LEFTOVER])


def refusal(mount: Path, name: str, deadline: float = DEADLINE) -> QuoteSourceError:
    with pytest.raises(QuoteSourceError) as refused:
        ask(mount, name, deadline)
    assert refused.value.reason is Reason.QUOTE_SOURCE
    return refused.value


def report_data(report: TeeReport) -> bytes:
    if report.provider == "tdx_guest":
        return parse_tdx_quote(report.outblob).report_data
    return parse_snp_report(report.outblob).report_data


def check(mount: Path, kind: str, fault: tuple[str, str], times: int = 1) -> None:
    """What SINGLE says: the right report after all, or a refusal at once that says why."""
    found, name = SINGLE[fault], pod(kind, fault, times)
    if found is PASSES:
        assert report_data(ask(mount, name)) == REPORT_DATA
        return
    start = time.monotonic()
    error = refusal(mount, name, 30)
    assert time.monotonic() - start < 2
    assert not error.retry
    assert_told(error, mount / name, fault[0], found)


def assert_told(error: QuoteSourceError, directory: Path, attribute: str, found: str) -> None:
    """An error of the kernel is told with the path, which in this lab names the fault already: the code has
    to be in what was found. What was read is told whole, with the attribute."""
    told = error.mismatches[0]
    if re.match("E[A-Z]+:", found):
        assert told.found.startswith(found)
        assert told.field.startswith(f"quote_source.{directory}/toposeal-")
    else:
        assert (told.field, told.found) == (f"quote_source.{attribute}", found)


def test_every_fault_of_the_lab_is_tried() -> None:
    tried = set(SINGLE) | SPECIAL | set(HANGS.values())
    assert tried == {(at, effect) for at, effects in EFFECTS.items() for effect in effects}


@pytest.mark.parametrize(("kind", "fault"), on_both(FAULT_10))
def test_fault_10_no_entry(mount: Path, kind: str, fault: tuple[str, str]) -> None:
    check(mount, kind, fault)


@pytest.mark.parametrize(("name", "code"), [("unregistered", "ENXIO"), ("absent", "ENOENT")])
def test_fault_10_no_provider_or_no_mount(mount: Path, name: str, code: str) -> None:
    with pytest.raises(QuoteSourceError) as refused:
        ConfigfsTsm(str(mount / name)).report(REPORT_DATA, 30)
    assert not refused.value.retry
    assert_told(refused.value, mount / name, "", f"{code}:")


def test_fault_10_what_a_killed_reader_left_is_neither_used_nor_touched(mount: Path) -> None:
    name = pod("snp", ("mkdir", "leftover"))
    for _ in range(2):
        assert report_data(ask(mount, name)) == REPORT_DATA
    assert [path.name for path in (mount / name).iterdir()] == [LEFTOVER]
    assert (mount / name / LEFTOVER / "generation").read_bytes() == b"0\n"


@pytest.mark.parametrize(("kind", "fault"), on_both(FAULT_11))
def test_fault_11_a_driver_that_is_busy(mount: Path, kind: str, fault: tuple[str, str]) -> None:
    check(mount, kind, fault)


@pytest.mark.parametrize(("kind", "fault"), on_both(FAULT_12))
def test_fault_12_reads_that_fail_or_lie(mount: Path, kind: str, fault: tuple[str, str]) -> None:
    check(mount, kind, fault)


@pytest.mark.parametrize(("kind", "fault"), on_both(FAULT_13))
def test_fault_13_the_key_and_the_hosts_patience(mount: Path, kind: str, fault: tuple[str, str]) -> None:
    check(mount, kind, fault)


def test_fault_13_a_wiped_key_stays_wiped(mount: Path) -> None:
    source = ConfigfsTsm(str(mount / pod("snp", ("outblob", "wipe"))))
    for _ in range(2):
        with pytest.raises(QuoteSourceError) as refused:
            source.report(REPORT_DATA, 30)
        assert not refused.value.retry
    assert refused.value.mismatches[0].found.startswith(WIPED)


@pytest.mark.parametrize("choice", HostTable)
def test_fault_13_the_hosts_table_is_handed_on_as_it_is(mount: Path, choice: HostTable) -> None:
    """The report stands on its own; whoever uses the table has to judge it."""
    answer = ask(mount, f"table-{choice}")
    assert report_data(answer) == REPORT_DATA
    if choice not in (HostTable.OLD_ENDORSEMENT, HostTable.FOREIGN_ENDORSEMENT):  # keys of their own
        assert answer.auxblob == host_table(chip(), choice)


@pytest.mark.parametrize(("effect", "size"), [("empty", 0), ("garbage", 600), ("short", None)])
def test_fault_13_a_bad_table_costs_no_report(mount: Path, effect: str, size: int | None) -> None:
    answer = ask(mount, pod("snp", ("auxblob", effect), LASTS))
    assert report_data(answer) == REPORT_DATA
    assert len(answer.auxblob) == (len(host_table(chip(), HostTable.FULL)) // 2 if size is None else size)


@pytest.mark.parametrize(("kind", "fault"), on_both(RACES))
def test_E15_a_report_for_somebody_elses_data_is_never_used(
    mount: Path, kind: str, fault: tuple[str, str]
) -> None:
    check(mount, kind, fault, FEW)


@pytest.mark.parametrize(("kind", "fault"), on_both(LASTING))
def test_E15_fault_12_what_never_passes_is_refused_at_the_deadline(
    mount: Path, kind: str, fault: tuple[str, str]
) -> None:
    fields = {("outblob", "foreign"): "outblob.report_data", ("outblob", "empty"): "outblob"}
    field = fields.get(fault, "generation")
    start = time.monotonic()
    error = refusal(mount, pod(kind, fault, LASTS), SHORT)
    assert time.monotonic() - start < SHORT + 1
    assert error.retry
    if fault[1] == "EBUSY":
        assert error.mismatches[0].found.startswith("EBUSY:")
    else:
        assert error.mismatches[0].field == f"quote_source.{field}"


def test_a_quote_says_what_was_asked(mount: Path) -> None:
    source = ConfigfsTsm(str(mount / "tdx"))
    for data in (REPORT_DATA, bytes(64), b"\xff" * 64):
        assert parse_tdx_quote(source.report(data, DEADLINE).outblob).report_data == data
    assert list((mount / "tdx").iterdir()) == []


@pytest.mark.parametrize("size", [0, 48, 63, 65])
def test_E4_report_data_of_another_size_is_never_written(mount: Path, size: int) -> None:
    with pytest.raises(ValueError, match="not 64"):
        ConfigfsTsm(str(mount / "tdx")).report(bytes(size), DEADLINE)


def test_padding_of_a_cloud_host_is_handed_on(mount: Path) -> None:
    assert len(ask(mount, pod("tdx", ("outblob", "pad"), LASTS)).outblob) == 8000


@pytest.mark.parametrize("effect", ["pad", "dice"])
def test_E14_nothing_may_follow_an_snp_report(mount: Path, effect: str) -> None:
    error = refusal(mount, pod("snp", ("outblob", effect), LASTS), SHORT)
    assert "1184" in str(error)


def test_another_kind_of_tee_is_refused(mount: Path) -> None:
    error = refusal(mount, "cca")
    assert not error.retry
    assert error.mismatches[0].found == b"arm_cca_guest".hex()


def test_an_snp_report_comes_with_the_hosts_certificates(mount: Path) -> None:
    answer = ask(mount, "snp")
    assert answer.provider == "sev_guest"
    report = parse_snp_report(answer.outblob)
    assert (report.report_data, report.vmpl) == (REPORT_DATA, 0)
    assert parse_certificate_table(answer.auxblob).vcek == chip().certificate


def test_a_guest_further_out_asks_for_its_own_level(mount: Path) -> None:
    assert parse_snp_report(ask(mount, "svsm").outblob).vmpl == 2


def test_a_tdx_report_has_no_certificates_beside_it(mount: Path) -> None:
    answer = ask(mount, "tdx")
    assert (answer.provider, answer.auxblob) == ("tdx_guest", b"")


def test_a_blob_larger_than_a_dcap_quote_is_called_by_its_name(mount: Path) -> None:
    error = refusal(mount, pod("tdx", ("outblob", "dice"), LASTS))
    assert not error.retry
    assert "DICE" in str(error)


@pytest.mark.parametrize("kind", HANGS)
def test_fault_12_a_read_that_hangs_is_abandoned_and_nothing_is_asked_meanwhile(
    mount: Path, kind: str
) -> None:
    directory = mount / pod(kind, HANGS[kind])
    source = ConfigfsTsm(str(directory))
    start = time.monotonic()
    with pytest.raises(QuoteSourceError) as late:
        source.report(REPORT_DATA, SHORT)
    assert late.value.retry
    assert late.value.mismatches[0].field == "quote_source.outblob"
    assert time.monotonic() - start < SHORT + 1
    with pytest.raises(QuoteSourceError) as outstanding:
        source.report(REPORT_DATA, SHORT)
    assert outstanding.value.retry
    assert outstanding.value.mismatches[0].field == "quote_source.request"
    assert len(list(directory.iterdir())) == 1
    assert report_data(source.report(REPORT_DATA, 20)) == REPORT_DATA
    assert list(directory.iterdir()) == []


def test_requests_queue_up(mount: Path) -> None:
    source = ConfigfsTsm(str(mount / "tdx"))
    answers: list[bytes] = []
    asked = [bytes([index]) * 64 for index in range(8)]
    threads = [
        threading.Thread(target=lambda data=data: answers.append(source.report(data, DEADLINE).outblob))
        for data in asked
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(parse_tdx_quote(answer).report_data for answer in answers) == asked


def test_no_thread_to_spare_is_a_refusal_not_a_lock(mount: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = ConfigfsTsm(str(mount / "tdx"))
    with monkeypatch.context() as patched:

        def start(thread: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        patched.setattr(threading.Thread, "start", start)
        with pytest.raises(QuoteSourceError):
            source.report(REPORT_DATA, SHORT)
    assert parse_tdx_quote(source.report(REPORT_DATA, DEADLINE).outblob).report_data == REPORT_DATA


def test_a_short_write_is_refused(mount: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "write", lambda file, data: 32)
    error = refusal(mount, "tdx", SHORT)
    assert error.retry


def test_a_counter_that_is_no_number_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plain directory that somebody mounted where configfs belongs."""
    make, remove = os.mkdir, os.rmdir

    def populate(path: str, mode: int = 0o777) -> None:
        make(path, mode)
        Path(path, "provider").write_text("tdx_guest\n")
        Path(path, "generation").write_text("many\n")

    def clear(path: str) -> None:
        for name in os.listdir(path):
            os.unlink(os.path.join(path, name))
        remove(path)

    monkeypatch.setattr(os, "mkdir", populate)
    monkeypatch.setattr(os, "rmdir", clear)
    with pytest.raises(QuoteSourceError) as refused:
        ConfigfsTsm(str(tmp_path)).report(REPORT_DATA, SHORT)
    assert not refused.value.retry
    assert refused.value.mismatches[0].field == "quote_source.generation"


def test_the_daemon_needs_no_uid_0_only_its_capability(mount: Path) -> None:
    """As the daemon runs: its own uid, CAP_DAC_OVERRIDE kept through the change."""
    script = (
        "import sys; from toposeal.host.configfs_tsm import ConfigfsTsm;"
        "print(len(ConfigfsTsm(sys.argv[1]).report(bytes(64), 5).outblob))"
    )
    run = [sys.executable, "-c", script, str(mount / "tdx")]
    drop = ["setpriv", "--reuid", str(DAEMON_UID), "--regid", str(DAEMON_UID), "--clear-groups"]
    keep = ["--inh-caps", "-all,+dac_override", "--ambient-caps", "-all,+dac_override"]
    able = subprocess.run([*drop, *keep, *run], capture_output=True, text=True, check=False)
    assert (able.stdout.strip(), able.returncode) == (str(len(HOST.quote(bytes(64), WEB))), 0), able.stderr
    unable = subprocess.run([*drop, *run], capture_output=True, text=True, check=False)
    assert unable.returncode == 1
    assert "EACCES" in unable.stderr
