"""The first moments as root: closed first, then the directory, then another user; nothing if one fails."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

from toposeal.daemon import entry
from toposeal.dataplane.firewall import Backend
from toposeal.errors import PodError, Reason, ToposealError, UsageError
from toposeal.host import firewall, privileges, xds_files

STATE_DIR = "/run/toposeal"


class Replaced(Exception):
    """This process would be another one now."""


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was done, in order; nothing of it for real."""
    done: list[str] = []

    def apply() -> Backend:
        done.append("rules")
        return Backend.NFT

    def prepare(path: str, *, owner: int, group: int) -> None:
        done.append(f"directory {path} {owner} {group}")

    def become(*_: object) -> None:
        done.append("daemon")
        raise Replaced

    monkeypatch.setattr(firewall, "apply", apply)
    monkeypatch.setattr(firewall, "choose", lambda: Backend.NFT)
    monkeypatch.setattr(xds_files, "prepare", prepare)
    monkeypatch.setattr(privileges, "become_daemon", become)
    monkeypatch.setattr(privileges, "harden", lambda: done.append("harden"))
    monkeypatch.setattr(privileges, "is_daemon", lambda: False)
    return done


def refused(function: Callable[[], object]) -> Reason:
    with pytest.raises(ToposealError) as error:
        function()
    return error.value.reason


def test_I2_root_closes_the_pod_before_anything_else(steps: list[str]) -> None:
    with pytest.raises(Replaced):
        entry.enter(STATE_DIR)
    assert steps == ["rules", "directory /run/toposeal 1338 1337", "daemon"]


def test_I5_without_rules_there_is_no_directory_and_no_daemon(
    steps: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> Backend:
        raise PodError.of(Reason.FIREWALL, "nft", "not installed", "a program")

    monkeypatch.setattr(firewall, "apply", fail)
    assert refused(lambda: entry.enter(STATE_DIR)) is Reason.FIREWALL
    assert steps == []


def test_F1_without_a_directory_there_is_no_daemon_and_the_rules_stay(
    steps: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: str, *, owner: int, group: int) -> None:
        raise PodError.of(Reason.STATE_DIR, path, "ext4", "tmpfs")

    monkeypatch.setattr(xds_files, "prepare", fail)
    assert refused(lambda: entry.enter(STATE_DIR)) is Reason.STATE_DIR
    assert steps == ["rules"]


def test_a_wrong_path_is_refused_in_a_closed_pod(steps: list[str]) -> None:
    assert refused(lambda: entry.enter("/run/../etc")) is Reason.USAGE
    assert steps == ["rules"]


def test_the_daemons_own_process_goes_on_hardened(steps: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(privileges, "is_daemon", lambda: True)
    monkeypatch.setattr(privileges, "is_isolated", lambda: True)
    entry.enter(STATE_DIR)
    assert steps == ["harden"]


def test_the_renderers_child_does_not_wait_for_what_root_alone_needs() -> None:
    """Nor does its parent import Envoy's message types."""
    script = (
        "from toposeal.host import privileges;"
        "privileges.is_daemon = privileges.is_isolated = lambda: True; privileges.harden = lambda: None;"
        "from toposeal.cli import run; from toposeal.host import render_spawn;"
        "import sys; render_spawn.spawn = lambda: print(*sys.modules);"
        "run.enter_pod({'state_dir': '/run/toposeal'})"
    )
    loaded = subprocess.check_output([sys.executable, "-I", "-c", script], text=True, timeout=60).split()
    assert "toposeal.daemon.entry" in loaded
    assert {"pyroute2", "grpc", "envoy_data_plane"}.isdisjoint(loaded)


def test_T11_the_daemons_user_with_an_environment_starts_again(
    steps: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(privileges, "is_daemon", lambda: True)
    monkeypatch.setattr(privileges, "is_isolated", lambda: False)
    with pytest.raises(Replaced):
        entry.enter(STATE_DIR)
    assert steps == ["daemon"]


@pytest.mark.parametrize(("path", "cleaned"), [("/run/toposeal", "/run/toposeal"), ("/run/x/", "/run/x")])
def test_a_short_absolute_path_is_a_state_directory(path: str, cleaned: str) -> None:
    assert entry.check_state_dir(path) == cleaned


@pytest.mark.parametrize("path", ["", "run", "./run", "/run/..", "/../run", "/" + "x" * 64])
def test_F2_any_other_path_is_not(path: str) -> None:
    with pytest.raises(UsageError):
        entry.check_state_dir(path)
