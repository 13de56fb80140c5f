"""What a pod is told: arguments or one measured file, everything checked, nothing from elsewhere."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from toposeal.cli.main import entry
from toposeal.daemon import service
from toposeal.daemon.config import load_config, parse_peers
from toposeal.daemon.config_file import KEYS, MEASURED, read_config_file
from toposeal.errors import Reason, ToposealError, UsageError
from toposeal.evidence.bundle import EMPTY
from toposeal.host.collateral_source import FileSource
from toposeal.host.endorsements import Endorser
from toposeal.kubernetes.initdata import PodIdentity, annotation, build
from toposeal.verification.model import TrustAnchors
from toposeal_lab.simtdx import LabPki
from toposeal_lab.simulation.network import owner, signed_topology

NOW = 1_800_000_000


@pytest.fixture
def values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.setattr("time.time", lambda: NOW + 5.0)
    root, _ = owner()
    (tmp_path / "owner.json").write_bytes(root.canonical)
    (tmp_path / "topology.dsse").write_bytes(
        signed_topology({"db": (1, 1), "web": (1, 1)}, version=3).envelope
    )
    collateral = json.loads(LabPki.create(NOW).collateral())
    (tmp_path / "collateral.json").write_text(json.dumps([collateral]))
    return {
        "role": "web",
        "mesh": "shop",
        "owner": str(tmp_path / "owner.json"),
        "topology": str(tmp_path / "topology.dsse"),
        "min_version": "3",
        "peers": "10.0.0.1:15443,db.shop.svc:15443,[fd00::1]:15443",
        "state_dir": "/run/toposeal",
        "collateral": str(tmp_path / "collateral.json"),
    }


def refused(values: dict[str, str]) -> Reason:
    with pytest.raises(ToposealError) as error:
        load_config(values)
    return error.value.reason


def test_a_complete_configuration_is_accepted(values: dict[str, str]) -> None:
    config = load_config(values)
    assert config.peers == (("10.0.0.1", 15443), ("db.shop.svc", 15443), ("fd00::1", 15443))
    assert config.topology.topology.version == 3
    assert len(config.collateral.tdx) == 1


def test_with_a_cache_no_file_is_needed_and_the_vendors_are_asked(values: dict[str, str]) -> None:
    del values["collateral"]
    assert refused(values) is Reason.USAGE
    services = load_config({**values, "collateral_cache": "/var/cache/toposeal"}).services
    assert services is not None
    assert services.cache == "/var/cache/toposeal"
    assert (services.pcs.api.host, services.kds.service.host) == (
        "api.trustedservices.intel.com",
        "kdsintf.amd.com",
    )


def test_the_owners_own_services_are_asked_instead(values: dict[str, str]) -> None:
    own = {"collateral_cache": "/c", "pccs": "https://pccs:8081/sgx/certification/v4/", "kds": "https://kds"}
    services = load_config({**values, **own}).services
    assert services is not None
    assert (services.pcs.api.authority, services.pcs.lists, services.kds.service.host) == (
        "pccs:8081",
        None,
        "kds",
    )
    assert refused({**values, **own, "pccs": "http://pccs"}) is Reason.USAGE
    assert refused({**values, **own, "service_ca": "/nowhere"}) is Reason.USAGE


@pytest.mark.parametrize("key", ["pccs", "kds", "service_ca"])
def test_a_service_without_a_cache_is_a_mistake(values: dict[str, str], key: str) -> None:
    assert refused({**values, key: "https://pccs:8081"}) is Reason.USAGE


def test_V9_roots_of_no_service_are_a_mistake(values: dict[str, str], tmp_path: Path) -> None:
    """Intel's and AMD's own services are verified by the system's roots, whatever a file says."""
    (tmp_path / "roots.pem").write_text(LabPki.create(NOW).root.pem())
    given = {**values, "collateral_cache": "/c", "service_ca": str(tmp_path / "roots.pem")}
    with pytest.raises(UsageError) as error:
        load_config(given)
    assert error.value.mismatches[0].field == "service_ca"
    assert load_config({**given, "pccs": "https://pccs:8081"})
    assert load_config({**given, "kds": "https://kds"})


def test_quotes_come_from_the_kernel_unless_another_source_is_named(values: dict[str, str]) -> None:
    assert load_config(values).quote_source == "configfs-tsm"
    for name in ("configfs-tsm", "coco-aa", "dstack"):
        assert load_config({**values, "quote_source": name}).quote_source == name


def test_a_pod_asks_the_source_that_it_was_told(
    values: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[str, str]] = []
    monkeypatch.setattr(service, "quote_source", lambda *told: made.append(told))
    platform = service.Platform(TrustAnchors(b""), report_dir="/reports")
    for name in ("configfs-tsm", "coco-aa", "dstack"):
        config = load_config({**values, "quote_source": name})
        service.pod_evidence(config, platform, FileSource(EMPTY), Endorser(platform.anchors))
    assert made == [("configfs-tsm", "/reports"), ("coco-aa", "/reports"), ("dstack", "/reports")]


@pytest.mark.parametrize("key", KEYS)
def test_every_value_is_needed(values: dict[str, str], key: str) -> None:
    assert refused({**values, key: ""}) is Reason.USAGE


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("role", "api", Reason.ROLE_UNKNOWN),
        ("mesh", "other", Reason.TOPOLOGY_MESH),
        ("min_version", "4", Reason.TOPOLOGY_ROLLBACK),
        ("min_version", "0", Reason.USAGE),
        ("min_version", "-1", Reason.USAGE),
        ("min_version", "1e3", Reason.USAGE),
        ("min_version", "\u0663", Reason.USAGE),
        ("state_dir", "run/toposeal", Reason.USAGE),
        ("state_dir", "/run/../etc", Reason.USAGE),
        ("owner", "/nonexistent", Reason.USAGE),
        ("quote_source", "auto", Reason.USAGE),
        ("quote_source", "configfs-tsm,dstack", Reason.USAGE),
        ("peers", "host", Reason.USAGE),
        ("peers", "host:0", Reason.USAGE),
        ("peers", "host:65536", Reason.USAGE),
        ("peers", "host:15443;rm", Reason.USAGE),
        ("peers", "-host:15443", Reason.USAGE),
        ("peers", "a:1,", Reason.USAGE),
    ],
)
def test_a_wrong_value_is_refused(values: dict[str, str], key: str, value: str, reason: Reason) -> None:
    assert refused({**values, key: value}) is reason


def test_O2_a_clock_before_the_topology_was_signed_is_refused(
    values: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load_config(values)
    monkeypatch.setattr("time.time", lambda: 0.0)
    assert refused(values) is Reason.USAGE


@pytest.mark.parametrize("content", ["", "[]", "{}", "[1]", "[{}]", "not json", "[" * 10_000])
def test_collateral_that_is_no_array_of_collateral_is_refused(values: dict[str, str], content: str) -> None:
    Path(values["collateral"]).write_text(content)
    with pytest.raises(ToposealError):
        load_config(values)


def test_too_many_peers_are_refused() -> None:
    with pytest.raises(UsageError):
        parse_peers(",".join(f"h{n}:1" for n in range(1025)))


def test_the_measured_file_says_the_same_as_arguments(values: dict[str, str], tmp_path: Path) -> None:
    lines = [f"{k} = {v if k == 'min_version' else json.dumps(v)}" for k, v in values.items()]
    (tmp_path / "pod.toml").write_text("\n".join(lines))
    assert read_config_file(str(tmp_path / "pod.toml")) == values


@pytest.mark.parametrize(
    "content", ["rolle = 'web'", "role = 1", "min_version = '3'", "role = ", "\x00", "role = true"]
)
def test_T9_a_measured_file_with_anything_else_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "pod.toml").write_text(content)
    with pytest.raises(UsageError):
        read_config_file(str(tmp_path / "pod.toml"))


def test_arguments_besides_a_measured_file_are_a_usage_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert entry(["run", "--config", str(tmp_path / "pod.toml"), "--role", "web"]) == 1
    assert "--role" in capsys.readouterr().err


@pytest.fixture
def measured(values: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """The same, told by initdata."""
    root, _ = owner()
    (tmp_path / "initdata").write_text(
        annotation(build("tdx", PodIdentity(root.canonical, "shop", "web", 3), {}))
    )
    others = {key: value for key, value in values.items() if key not in MEASURED}
    return {**others, "initdata": str(tmp_path / "initdata")}


def test_initdata_says_whose_which_and_from_when_on(values: dict[str, str], measured: dict[str, str]) -> None:
    plain, config = load_config(values), load_config(measured)
    assert config.initdata is not None and config.initdata.identity.min_version == 3
    assert replace(config, initdata=None) == plain


@pytest.mark.parametrize("key", MEASURED)
def test_what_is_measured_is_told_once(values: dict[str, str], measured: dict[str, str], key: str) -> None:
    assert refused({**measured, key: values[key]}) is Reason.USAGE


@pytest.mark.parametrize(
    ("identity", "reason"),
    [
        ({"mesh": "other"}, Reason.TOPOLOGY_MESH),
        ({"role": "api"}, Reason.ROLE_UNKNOWN),
        ({"min_version": 4}, Reason.TOPOLOGY_ROLLBACK),
        ({"owner_root": b"{}"}, Reason.TOPOLOGY_INVALID),
    ],
)
def test_initdata_is_held_to_what_arguments_are(
    measured: dict[str, str], identity: dict[str, Any], reason: Reason
) -> None:
    own = PodIdentity(owner()[0].canonical, "shop", "web", 3)
    Path(measured["initdata"]).write_text(annotation(build("tdx", replace(own, **identity), {})))
    assert refused(measured) is reason


def test_initdata_that_is_none_is_refused(measured: dict[str, str]) -> None:
    Path(measured["initdata"]).write_text("no initdata")
    assert refused(measured) is Reason.MALFORMED
