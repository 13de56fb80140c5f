"""Each look on a prepared place: what the daemon would refuse is found, what it would take is fine."""

from __future__ import annotations

import os
import re
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.tdx import HOST, WEB
from support.tsm import served

from toposeal.daemon.doctor import look_at_files
from toposeal.errors import PodError, Reason
from toposeal.gate.doctor import Fine, Listener, Look, Unknown, Wrong
from toposeal.host import doctor, doctor_looks, firewall, xds_files
from toposeal.kubernetes.initdata import PodIdentity, annotation, build
from toposeal.limits import DAEMON_UID, ENVOY_UID
from toposeal_lab.simulation.network import owner, signed_topology
from toposeal_lab.tsm import ReportDirectory
from toposeal_lab.tsm_faults import Faults
from toposeal_lab.tsm_providers import TdxProvider

ROOT = Path(__file__).resolve().parents[2]
GOOD_ENVOY = "0" * 40 + "/1.40.0/Clean/RELEASE/BoringSSL"
NOW = 1_800_000_000


def refused(look: Look, text: str = "") -> Reason:
    assert isinstance(look, Wrong), look
    assert text in "; ".join(map(str, look.mismatches))
    return look.mismatches[0].reason


# What is installed.


def test_every_distribution_that_a_sidecar_needs_is_imported() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [*project["dependencies"], *project["optional-dependencies"]["sidecar"]]
    assert {re.split(r"[<>=]", line)[0] for line in lines} == set(doctor.DISTRIBUTIONS)
    assert isinstance(doctor.distributions(), Fine)


def test_a_distribution_that_cannot_be_imported_is_named() -> None:
    look = doctor.distributions({"grpcio": "no_such_module.aio", "PyYAML": "yaml"})
    assert refused(look, "grpcio: found No module named 'no_such_module'") is Reason.INTERNAL
    assert isinstance(look, Wrong) and len(look.mismatches) == 1


# What the kernel says of the process.


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    net = tmp_path / "self" / "net"
    net.mkdir(parents=True)
    (tmp_path / "self" / "status").write_text("CapEff:\t0000000000001000\n")
    line = " 0: 0100007F:3ACD 00000000:0000 {} 0:0 00:0 0 1338 0 1 1 0\n"
    (net / "tcp").write_text("head\n" + line.format("0A"))
    (net / "udp").write_text("head\n" + line.format("07"))
    (net / "route").write_text("head\n")
    return tmp_path


def test_facts_are_read_from_the_kernels_files(proc: Path) -> None:
    facts = doctor.facts({}, (), str(proc))
    assert (facts.uid, facts.capabilities, facts.routes) == (os.geteuid(), 1 << 12, "head\n")
    assert facts.listeners == (Listener("tcp", 15053, 1338), Listener("udp", 15053, 1338))


def test_what_cannot_be_read_is_unknown(tmp_path: Path) -> None:
    facts = doctor.facts({}, (), str(tmp_path))
    assert (facts.capabilities, facts.listeners, facts.routes) == (None, None, None)


# Envoy.


def program(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_the_installed_envoy_is_admitted() -> None:
    look = doctor_looks.envoy()
    assert isinstance(look, Fine) and look.found.endswith("/RELEASE/BoringSSL")


@pytest.mark.parametrize(
    ("said", "admitted"),
    [
        (GOOD_ENVOY, True),
        (GOOD_ENVOY.replace("1.40.0", "1.38.3"), False),
        (GOOD_ENVOY.replace("RELEASE", "DEBUG"), False),
    ],
)
def test_the_version_is_judged_as_at_the_start(tmp_path: Path, said: str, admitted: bool) -> None:
    look = doctor_looks.envoy(program(tmp_path / "envoy", f"echo 'envoy  version: {said}'"))
    if admitted:
        assert look == Fine(GOOD_ENVOY)
    else:
        assert refused(look, "envoy.version") is Reason.ENVOY_FAILED


def test_what_is_no_envoy_is_missing(tmp_path: Path) -> None:
    assert refused(doctor_looks.envoy(str(tmp_path / "none")), "to run") is Reason.ENVOY_FAILED
    assert refused(doctor_looks.envoy(str(tmp_path)), "no regular file") is Reason.ENVOY_FAILED
    silent = program(tmp_path / "silent", "exit 3")
    assert refused(doctor_looks.envoy(silent), "exit code 3") is Reason.ENVOY_FAILED


# Quotes.


def test_the_driver_is_named_and_a_report_is_made_only_if_asked_for() -> None:
    reports = ReportDirectory(TdxProvider(HOST, WEB), Faults())
    with served({"web": reports}) as mount:
        directory = str(mount / "web")
        assert doctor_looks.quotes("configfs-tsm", directory, ask=False) == Fine(
            "tdx_guest; no report was asked for"
        )
        assert os.listdir(directory) == []
        look = doctor_looks.quotes("configfs-tsm", directory, ask=True)
        assert isinstance(look, Fine) and re.fullmatch(r"tdx_guest, a report of \d+ bytes", look.found)
        assert os.listdir(directory) == []


def test_a_machine_without_configfs_has_no_quotes(tmp_path: Path) -> None:
    look = doctor_looks.quotes("configfs-tsm", str(tmp_path / "report"), ask=False)
    assert refused(look, "ENOENT") is Reason.QUOTE_SOURCE


# The firewall.


def test_rules_are_not_asked_for_without_the_right_to() -> None:
    for capabilities in (None, 0):
        look, backend = doctor_looks.back_end(capabilities)
        assert isinstance(look, Unknown) and backend is None
        assert isinstance(doctor_looks.rules(backend), Unknown)


def test_a_machine_without_a_back_end_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(firewall, "_DIRECTORIES", ("/nonexistent",))
    look, backend = doctor_looks.back_end(1 << 12)
    assert refused(look, "nft: found not installed") is Reason.FIREWALL
    assert backend is None


# The state directory.


@pytest.fixture
def memory() -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("directories of other users need root")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as path:
        os.chmod(path, 0o755)
        yield Path(path)


def state_refused(path: Path, text: str) -> None:
    with pytest.raises(PodError, match=text) as caught:
        doctor_looks.state_directory(str(path))
    assert caught.value.reason is Reason.STATE_DIR


def test_a_place_where_the_daemon_can_make_it_is_enough(memory: Path) -> None:
    assert "when it starts" in doctor_looks.state_directory(str(memory / "pod"))
    assert not (memory / "pod").exists()
    (memory / "pod").mkdir()
    assert "when it starts" in doctor_looks.state_directory(str(memory / "pod"))
    assert list((memory / "pod").iterdir()) == []


def test_what_the_daemon_has_made_is_fine_until_somebody_changes_it(memory: Path) -> None:
    path = memory / "pod"
    xds_files.prepare(str(path), owner=DAEMON_UID, group=ENVOY_UID)
    assert doctor_looks.state_directory(str(path)) == f"{path}, on a tmpfs"
    (path / "sockets").chmod(0o777)
    state_refused(path, "mode 0777, expected mode 0750")
    (path / "sockets").chmod(0o750)
    os.chown(path / "xds", 1000, 1000)
    state_refused(path, "owner 1000, expected owner 1338")


def test_what_the_daemon_would_refuse_is_refused(memory: Path, tmp_path: Path) -> None:
    state_refused(memory / "absent" / "pod", "No such file")
    (memory / "pod").mkdir()
    (memory / "pod" / "stranger").touch()
    state_refused(memory / "pod", "stranger")
    memory.chmod(0o700)
    state_refused(memory / "pod", "open for other users to pass")


def test_a_file_system_on_disk_is_no_place_for_it(memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xds_files, "_TMPFS_MAGIC", 0xEF53)
    state_refused(memory / "pod", "file system 0x1021994, expected tmpfs")


# What was given.


@pytest.fixture
def values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.setattr("time.time", lambda: NOW + 5.0)
    root, _ = owner()
    signed = signed_topology({"db": (1, 1), "web": (1, 1)}, version=3)
    (tmp_path / "owner.json").write_bytes(root.canonical)
    (tmp_path / "topology.json").write_bytes(signed.envelope)
    (tmp_path / "collateral.json").write_text("[]")
    return {
        "role": "web",
        "mesh": "shop",
        "owner": str(tmp_path / "owner.json"),
        "topology": str(tmp_path / "topology.json"),
        "min_version": "3",
        "peers": "10.0.0.1:15443",
    }


def wrong(values: dict[str, str]) -> dict[str, Reason]:
    looks = look_at_files(values)
    return {k: look.mismatches[0].reason for k, look in looks.items() if isinstance(look, Wrong)}


def unknown(values: dict[str, str]) -> set[str]:
    return {key for key, look in look_at_files(values).items() if isinstance(look, Unknown)}


def test_files_that_the_daemon_takes_are_fine(values: dict[str, str]) -> None:
    looks = look_at_files(values)
    assert set(looks) == {"owner", "topology", "role", "clock", "peers"}
    assert all(isinstance(look, Fine) for look in looks.values()), looks
    assert looks["topology"] == Fine("shop, version 3, signed by the owner")


@pytest.mark.parametrize(
    ("changed", "reasons", "untold"),
    [
        ({"role": "cache"}, {"role": Reason.ROLE_UNKNOWN}, set()),
        ({"mesh": "other"}, {"topology": Reason.TOPOLOGY_MESH}, {"role", "clock"}),
        ({"min_version": "4"}, {"topology": Reason.TOPOLOGY_ROLLBACK}, {"role", "clock"}),
        ({"owner": "/nonexistent"}, {"owner": Reason.USAGE}, {"topology", "role", "clock"}),
        ({"topology": "/nonexistent"}, {"topology": Reason.USAGE}, {"role", "clock"}),
        ({"peers": "db"}, {"peers": Reason.USAGE}, set()),
        ({"collateral": "/nonexistent"}, {"collateral": Reason.USAGE}, set()),
        ({"pccs": "https://pccs"}, {"services": Reason.USAGE}, set()),
        (
            {"initdata": "/nonexistent"},
            {"initdata": Reason.USAGE},
            {"owner", "topology", "role", "clock"},
        ),
    ],
)
def test_what_is_wrong_is_told_once(
    values: dict[str, str], changed: dict[str, str], reasons: dict[str, Reason], untold: set[str]
) -> None:
    given = {**values, **changed}
    assert (wrong(given), unknown(given)) == (reasons, untold)


def test_a_clock_before_the_signature_is_wrong(
    values: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.time", lambda: 1_000_000_000.0)
    assert wrong(values) == {"clock": Reason.USAGE}


def test_what_was_not_given_is_not_missing() -> None:
    assert wrong({}) == {}
    assert unknown({}) == {"owner", "topology", "role", "clock"}


def test_a_cache_stands_for_the_file(values: dict[str, str]) -> None:
    assert wrong({**values, "collateral_cache": "/var/cache/toposeal"}) == {}
    assert "services" in look_at_files({**values, "collateral_cache": "/var/cache/toposeal"})


def test_initdata_says_who_the_pod_is(values: dict[str, str], tmp_path: Path) -> None:
    root, _ = owner()
    document = build("tdx", PodIdentity(root.canonical, "shop", "web", 3), {})
    (tmp_path / "initdata").write_text(annotation(document))
    given = {key: values[key] for key in ("topology", "peers")} | {"initdata": str(tmp_path / "initdata")}
    assert (wrong(given), unknown(given)) == ({}, set())
