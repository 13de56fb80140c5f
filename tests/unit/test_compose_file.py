"""docker-compose.yml as a value: who may do what, without an engine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from toposeal_lab.platform import PODS
from toposeal_lab.scenario import MEMBERS, MESH

ROOT = Path(__file__).resolve().parents[2]
CAPABILITIES = {"NET_ADMIN", "SETUID", "SETGID", "KILL", "CHOWN", "DAC_OVERRIDE"}


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    return found


def test_there_is_a_sidecar_and_an_application_for_every_pod(services: dict[str, Any]) -> None:
    assert set(services) == {"platform", "outside", *PODS, *(f"{name}-app" for name in PODS)}


def test_members_start_by_themselves_and_nobody_else(services: dict[str, Any]) -> None:
    started = {name for name, service in services.items() if "profiles" not in service}
    assert started == {"platform", *MEMBERS, *(f"{name}-app" for name in MEMBERS)}


def test_who_is_outside_has_no_sidecar_and_may_nothing(services: dict[str, Any]) -> None:
    outside = services["outside"]
    assert outside["networks"] == ["shop"] and "network_mode" not in outside
    assert outside["cap_drop"] == ["ALL"] and "cap_add" not in outside and outside["user"] == "1000:1000"
    assert outside["read_only"] is True and outside["security_opt"] == ["no-new-privileges:true"]
    assert all(volume["read_only"] is True for volume in outside["volumes"])


@pytest.mark.parametrize("name", PODS)
def test_sidecars_run_as_what_they_are_and_nothing_more(services: dict[str, Any], name: str) -> None:
    sidecar = services[name]
    own = (f"--tsm=/lab/tsm/{name}", f"--measurements=/lab/tsm/measurements/{name}")
    assert sidecar["command"] == [f"--role={PODS[name]}", *own]
    assert f"--mesh={MESH}" in sidecar["entrypoint"] and "environment" not in sidecar
    assert sidecar["cap_drop"] == ["ALL"] and set(sidecar["cap_add"]) == CAPABILITIES
    assert sidecar["read_only"] is True and sidecar["security_opt"] == ["no-new-privileges:true"]
    assert sidecar["depends_on"] == {"platform": {"condition": "service_healthy"}}
    assert [volume["target"] for volume in sidecar["volumes"]] == ["/lab"] and "devices" not in sidecar


@pytest.mark.parametrize("name", PODS)
def test_I2_applications_join_a_closed_network_without_capabilities(
    services: dict[str, Any], name: str
) -> None:
    application = services[f"{name}-app"]
    assert application["network_mode"] == f"service:{name}" and "networks" not in application
    assert application["depends_on"] == {name: {"condition": "service_healthy"}}
    assert application["cap_drop"] == ["ALL"] and "cap_add" not in application
    assert application["user"] == "1000:1000" and application["security_opt"] == ["no-new-privileges:true"]


def test_the_simulator_is_the_only_exception_and_has_no_network(services: dict[str, Any]) -> None:
    platform = services["platform"]
    assert platform["network_mode"] == "none" and platform["devices"] == ["/dev/fuse"]
    assert platform["cap_drop"] == ["ALL"] and platform["cap_add"] == ["SYS_ADMIN"]
    others = [service for name, service in services.items() if name != "platform"]
    assert not any("devices" in s or "privileged" in s or "SYS_ADMIN" in s.get("cap_add", ()) for s in others)


def test_one_service_builds_the_image(services: dict[str, Any]) -> None:
    assert [name for name, service in services.items() if "build" in service] == ["platform"]
    assert {service["image"] for service in services.values()} == {"toposeal-lab"}


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give its capabilities up")
def test_the_sidecars_capabilities_suffice_for_its_state_directory() -> None:
    kept = "-all," + ",".join(f"+{name.lower()}" for name in sorted(CAPABILITIES))
    setpriv = ["setpriv", f"--inh-caps={kept}", f"--bounding-set={kept}", sys.executable, "-I", "-c"]
    script = (
        "import tempfile; from toposeal.host.xds_files import prepare\n"
        "with tempfile.TemporaryDirectory(dir='/dev/shm') as shm:\n"
        "    __import__('os').chmod(shm, 0o755)\n"
        "    for _ in range(2): prepare(f'{shm}/state', owner=1338, group=1337)\n"
    )
    done = subprocess.run([*setpriv, script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
