"""The reader of configfs-tsm against a real file system that misbehaves as a kernel or a host can."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.snp import WEB as SNP_WEB
from support.snp import chip
from support.tdx import HOST, WEB
from support.tsm import served

from toposeal.errors import QuoteSourceError, Reason
from toposeal.evidence.snp_report import parse_snp_report
from toposeal.evidence.tdx_quote import parse_tdx_quote
from toposeal.host.configfs_tsm import ConfigfsTsm, TsmReport
from toposeal.limits import DAEMON_UID, MAX_QUOTE_SIZE, MAX_TDX_QUOTE_SIZE
from toposeal_lab.tsm import ATTRIBUTES, Blobs, Fault, Faults, ReportDirectory, SnpProvider, TdxProvider

REPORT_DATA = bytes(range(64))
DEADLINE = 5.0
SHORT = 0.4

# Pod name -> what goes wrong there, and how often.
SCRIPTS: dict[str, list[Fault]] = {
    "plain": [],
    "padded": [Fault("outblob", "pad", 99)],
    "racing-writer": [Fault("outblob", "race", 2)],
    "racing-commit": [Fault("commit", "race", 2)],
    "foreign-quote": [Fault("outblob", "foreign", 2)],
    "swallowed-error": [Fault("commit", "swallow", 2)],
    "no-name-free": [Fault("mkdir", "EEXIST")],
    "no-memory": [Fault("mkdir", "ENOMEM"), Fault("outblob", "ENOMEM")],
    "in-flight": [Fault("outblob", "EBUSY", 3)],
    "slow-host": [Fault("outblob", "ETIMEDOUT")],
    "interrupted": [Fault("outblob", "EINTR", 2)],
    "empty-once": [Fault("outblob", "empty")],
    "garbage-once": [Fault("outblob", "garbage")],
    "always-busy": [Fault("outblob", "EBUSY", 99)],
    "always-empty": [Fault("outblob", "empty", 99)],
    "always-foreign": [Fault("outblob", "foreign", 99)],
    "always-racing": [Fault("outblob", "race", 99)],
    "always-swallowed": [Fault("commit", "swallow", 99)],
    "no-provider": [Fault("mkdir", "ENXIO", 99)],
    "no-permission": [Fault("mkdir", "EACCES", 99)],
    "bad-input": [Fault("outblob", "EINVAL", 99)],
    "host-error": [Fault("outblob", "EIO", 99)],
    "key-wiped": [Fault("outblob", "ENOTTY", 99)],
    "hanging": [Fault("outblob", "hang")],
}


class OtherProvider:
    """A driver of another TEE, or none of ours, with a report as large as it likes."""

    attributes = frozenset(ATTRIBUTES)

    def __init__(self, name: str, size: int) -> None:
        self.name = name
        self._size = size

    def report(self, inblob: bytes, privlevel: int) -> Blobs:
        return Blobs(inblob.ljust(self._size, b"\1"))


@pytest.fixture(scope="module")
def mount() -> Iterator[Path]:
    tdx = TdxProvider(HOST, WEB)
    directories = {name: ReportDirectory(tdx, Faults(script)) for name, script in SCRIPTS.items()}
    directories["unregistered"] = ReportDirectory(None, Faults())
    directories["cca"] = ReportDirectory(OtherProvider("arm_cca_guest", 1184), Faults())
    directories["sev"] = ReportDirectory(SnpProvider(chip(), SNP_WEB, b"table"), Faults())
    directories["dice"] = ReportDirectory(OtherProvider("tdx_guest", MAX_TDX_QUOTE_SIZE + 1), Faults())
    directories["oversized"] = ReportDirectory(OtherProvider("tdx_guest", MAX_QUOTE_SIZE + 1), Faults())
    with served(directories) as mountpoint:
        yield mountpoint


def ask(mount: Path, pod: str, deadline: float = DEADLINE) -> bytes:
    """A quote from `pod`; whatever happens, no entry is left behind."""
    return report(mount, pod, deadline).outblob


def report(mount: Path, pod: str, deadline: float = DEADLINE) -> TsmReport:
    try:
        return ConfigfsTsm(str(mount / pod)).report(REPORT_DATA, deadline)
    finally:
        assert list((mount / pod).iterdir()) == []


def refusal(mount: Path, pod: str, deadline: float = DEADLINE) -> QuoteSourceError:
    with pytest.raises(QuoteSourceError) as refused:
        ask(mount, pod, deadline)
    assert refused.value.reason is Reason.QUOTE_SOURCE
    return refused.value


def test_a_quote_says_what_was_asked(mount: Path) -> None:
    source = ConfigfsTsm(str(mount / "plain"))
    for report_data in (REPORT_DATA, bytes(64), b"\xff" * 64):
        assert parse_tdx_quote(source.quote(report_data, DEADLINE)).report_data == report_data
    assert list((mount / "plain").iterdir()) == []


@pytest.mark.parametrize("size", [0, 48, 63, 65])
def test_E4_report_data_of_another_size_is_never_written(mount: Path, size: int) -> None:
    with pytest.raises(ValueError, match="not 64"):
        ConfigfsTsm(str(mount / "plain")).quote(bytes(size), DEADLINE)


@pytest.mark.parametrize(
    "pod",
    [
        "no-name-free",
        "no-memory",
        "in-flight",
        "slow-host",
        "interrupted",
        "empty-once",
        "garbage-once",
        "swallowed-error",
    ],
)
def test_what_passes_is_waited_for(mount: Path, pod: str) -> None:
    assert parse_tdx_quote(ask(mount, pod)).report_data == REPORT_DATA


def test_padding_of_a_cloud_host_is_handed_on(mount: Path) -> None:
    assert len(ask(mount, "padded")) == 8000


@pytest.mark.parametrize("pod", ["racing-writer", "racing-commit", "foreign-quote"])
def test_E15_a_quote_for_somebody_elses_data_is_never_used(mount: Path, pod: str) -> None:
    assert parse_tdx_quote(ask(mount, pod)).report_data == REPORT_DATA


@pytest.mark.parametrize(
    ("pod", "field"),
    [
        ("always-racing", "generation"),
        ("always-foreign", "outblob.report_data"),
        ("always-swallowed", "generation"),
        ("always-empty", "outblob"),
    ],
)
def test_E15_what_never_passes_is_refused_at_the_deadline(mount: Path, pod: str, field: str) -> None:
    start = time.monotonic()
    error = refusal(mount, pod, SHORT)
    assert time.monotonic() - start < SHORT + 1
    assert error.retry
    assert error.mismatches[0].field == f"quote_source.{field}"


def test_a_busy_driver_is_not_hammered(mount: Path) -> None:
    start = time.monotonic()
    error = refusal(mount, "always-busy", SHORT)
    assert time.monotonic() - start < SHORT + 1
    assert error.retry
    assert "EBUSY" in str(error)


@pytest.mark.parametrize(
    ("pod", "code"),
    [
        ("no-provider", "ENXIO"),
        ("unregistered", "ENXIO"),
        ("no-permission", "EACCES"),
        ("bad-input", "EINVAL"),
        ("host-error", "EIO"),
        ("key-wiped", "ENOTTY"),
        ("absent", "ENOENT"),
    ],
)
def test_what_cannot_pass_is_refused_at_once(mount: Path, pod: str, code: str) -> None:
    start = time.monotonic()
    with pytest.raises(QuoteSourceError) as refused:
        ConfigfsTsm(str(mount / pod)).quote(REPORT_DATA, 30)
    assert time.monotonic() - start < 2
    assert not refused.value.retry
    assert code in str(refused.value)
    assert str(mount / pod) in str(refused.value)


def test_another_kind_of_tee_is_refused(mount: Path) -> None:
    error = refusal(mount, "cca")
    assert not error.retry
    assert error.mismatches[0].found == b"arm_cca_guest".hex()


def test_an_snp_report_comes_with_the_hosts_certificates(mount: Path) -> None:
    answer = report(mount, "sev")
    assert answer.provider == "sev_guest"
    assert parse_snp_report(answer.outblob).report_data == REPORT_DATA
    assert answer.auxblob == b"table"
    with pytest.raises(QuoteSourceError):
        ConfigfsTsm(str(mount / "sev")).quote(REPORT_DATA, DEADLINE)


def test_a_tdx_report_has_no_certificates_beside_it(mount: Path) -> None:
    answer = report(mount, "plain")
    assert (answer.provider, answer.auxblob) == ("tdx_guest", b"")


def test_a_blob_larger_than_a_dcap_quote_is_called_by_its_name(mount: Path) -> None:
    error = refusal(mount, "dice")
    assert not error.retry
    assert "DICE" in str(error)


def test_a_blob_above_the_kernels_cap_is_refused(mount: Path) -> None:
    error = refusal(mount, "oversized")
    assert not error.retry
    assert str(MAX_QUOTE_SIZE) in str(error)


def test_a_read_that_hangs_is_abandoned_and_nothing_is_asked_meanwhile(mount: Path) -> None:
    source = ConfigfsTsm(str(mount / "hanging"))
    start = time.monotonic()
    with pytest.raises(QuoteSourceError) as late:
        source.quote(REPORT_DATA, SHORT)
    assert late.value.retry
    assert time.monotonic() - start < SHORT + 1
    with pytest.raises(QuoteSourceError) as outstanding:
        source.quote(REPORT_DATA, SHORT)
    assert outstanding.value.retry
    assert outstanding.value.mismatches[0].field == "quote_source.request"
    assert len(list((mount / "hanging").iterdir())) == 1
    assert parse_tdx_quote(source.quote(REPORT_DATA, 20)).report_data == REPORT_DATA
    assert list((mount / "hanging").iterdir()) == []


def test_requests_queue_up(mount: Path) -> None:
    source = ConfigfsTsm(str(mount / "plain"))
    answers: list[bytes] = []
    asked = [bytes([index]) * 64 for index in range(8)]
    threads = [
        threading.Thread(target=lambda data=data: answers.append(source.quote(data, DEADLINE)))
        for data in asked
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(parse_tdx_quote(answer).report_data for answer in answers) == asked


def test_no_thread_to_spare_is_a_refusal_not_a_lock(mount: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = ConfigfsTsm(str(mount / "plain"))
    with monkeypatch.context() as patched:

        def start(thread: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        patched.setattr(threading.Thread, "start", start)
        with pytest.raises(QuoteSourceError):
            source.quote(REPORT_DATA, SHORT)
    assert parse_tdx_quote(source.quote(REPORT_DATA, DEADLINE)).report_data == REPORT_DATA


def test_a_short_write_is_refused(mount: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "write", lambda file, data: 32)
    error = refusal(mount, "plain", SHORT)
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
        ConfigfsTsm(str(tmp_path)).quote(REPORT_DATA, SHORT)
    assert not refused.value.retry
    assert refused.value.mismatches[0].field == "quote_source.generation"


def test_the_daemon_needs_no_uid_0_only_its_capability(mount: Path) -> None:
    """As the daemon runs: its own uid, CAP_DAC_OVERRIDE kept through the change."""
    script = (
        "import sys; from toposeal.host.configfs_tsm import ConfigfsTsm;"
        "print(len(ConfigfsTsm(sys.argv[1]).quote(bytes(64), 5)))"
    )
    run = [sys.executable, "-c", script, str(mount / "plain")]
    drop = ["setpriv", "--reuid", str(DAEMON_UID), "--regid", str(DAEMON_UID), "--clear-groups"]
    keep = ["--inh-caps", "-all,+dac_override", "--ambient-caps", "-all,+dac_override"]
    able = subprocess.run([*drop, *keep, *run], capture_output=True, text=True, check=False)
    assert (able.stdout.strip(), able.returncode) == (str(len(HOST.quote(bytes(64), WEB))), 0), able.stderr
    unable = subprocess.run([*drop, *run], capture_output=True, text=True, check=False)
    assert unable.returncode == 1
    assert "EACCES" in unable.stderr
