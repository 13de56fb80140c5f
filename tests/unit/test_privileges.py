"""From root to the daemon's user: what setpriv is asked for, what is left of the environment."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable

import pytest

from toposeal.errors import PodError, Reason, UsageError
from toposeal.host import privileges
from toposeal.limits import DAEMON_UID


class Replaced(Exception):
    """What execve was called with."""


@pytest.fixture
def executed(
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[Callable[[], object]], tuple[str, list[str], dict[str, str]]]:
    def execve(path: str, argv: list[str], environment: dict[str, str]) -> None:
        raise Replaced(path, argv, environment)

    monkeypatch.setattr(os, "execve", execve)

    def run(function: Callable[[], object]) -> tuple[str, list[str], dict[str, str]]:
        with pytest.raises(Replaced) as replaced:
            function()
        return replaced.value.args

    return run


@pytest.mark.parametrize(("uid", "daemon"), [(0, False), (DAEMON_UID, True)])
def test_root_and_the_daemons_user_may_start(monkeypatch: pytest.MonkeyPatch, uid: int, daemon: bool) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    assert privileges.is_daemon() is daemon


@pytest.mark.parametrize("uid", [1, 1000, 1337, 1339, 65_534])
def test_a_third_user_is_refused(monkeypatch: pytest.MonkeyPatch, uid: int) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    with pytest.raises(UsageError) as refused:
        privileges.is_daemon()
    assert refused.value.reason is Reason.USAGE


def test_F5_the_daemon_starts_isolated_without_any_environment(
    executed: Callable[..., tuple[str, list[str], dict[str, str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "orig_argv", ["python", "-I", "/bin/toposeal", "run", "-I"])
    path, argv, environment = executed(privileges.become_daemon)
    assert environment == {}
    assert path == argv[0] == privileges.find_setpriv()
    assert argv[argv.index("--") + 1 :] == [sys.executable, "-I", "/bin/toposeal", "run", "-I"]
    caps = ",".join(f"+{name}" for name in privileges.CAPABILITIES)
    assert argv[1 : argv.index("--")] == [
        f"--reuid={DAEMON_UID}",
        f"--regid={DAEMON_UID}",
        "--clear-groups",
        f"--inh-caps=-all,{caps}",
        f"--ambient-caps=-all,{caps}",
        "--no-new-privs",
    ]


@pytest.mark.parametrize(
    ("flags", "environment", "isolated"),
    [
        (["-I"], {}, True),
        (["-I"], {"LC_CTYPE": "C.UTF-8"}, True),  # Python's own, where the locale is C
        ([], {}, False),
        (["-E"], {}, False),
        (["-I"], {"SSLKEYLOGFILE": "/tmp/keys"}, False),
        (["-I"], {"PATH": "/usr/bin"}, False),
    ],
)
def test_F5_isolated_means_both_flag_and_environment(
    flags: list[str], environment: dict[str, str], isolated: bool
) -> None:
    code = "import sys; sys.path.append(sys.argv[1])\n"
    code += "from toposeal.host.privileges import is_isolated; print(is_isolated())"
    source = os.path.dirname(os.path.dirname(os.path.dirname(privileges.__file__)))
    command = [sys.executable, *flags, "-c", code, source]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(isolated)


def test_without_setpriv_nothing_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(privileges, "SETPRIV", ("/nonexistent/setpriv",))
    with pytest.raises(PodError) as refused:
        privileges.become_daemon()
    assert refused.value.reason is Reason.INTERNAL


HARDENED = """
import os, resource, sys
sys.path.append(sys.argv[1])
from toposeal.host.privileges import harden
resource.setrlimit(resource.RLIMIT_CORE, (int(sys.argv[2]), int(sys.argv[2])))
harden()
core, reader = resource.getrlimit(resource.RLIMIT_CORE), os.stat("/proc/self/mem").st_uid
print(core, oct(os.umask(0)), dict(os.environ), reader)
"""


@pytest.mark.parametrize(("before", "after"), [(resource.RLIM_INFINITY, 1), (4096, 1), (1, 1), (0, 0)])
def test_F3_hardening_forbids_core_dumps_and_readers(before: int, after: int) -> None:
    """A limit that is 0 already cannot be raised to 1 without a capability that the daemon has not."""
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    if hard != resource.RLIM_INFINITY and not 0 <= before <= hard:
        pytest.skip("this machine's limit is lower")
    source = os.path.dirname(os.path.dirname(os.path.dirname(privileges.__file__)))
    command = [sys.executable, "-I", "-c", HARDENED, source, str(before)]
    done = subprocess.run(command, env={"SSLKEYLOGFILE": "/x"}, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"({after}, {after}) 0o77 {{'GRPC_VERBOSITY': 'NONE'}} 0"


def test_F3_a_kernel_that_refuses_ends_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    class Libc:
        @staticmethod
        def prctl(*arguments: int) -> int:
            return -1

    monkeypatch.setattr("ctypes.CDLL", lambda *_, **__: Libc)
    monkeypatch.setattr("resource.setrlimit", lambda *_: None)
    with pytest.raises(PodError) as refused:
        privileges.harden()
    assert refused.value.reason is Reason.INTERNAL


def test_legacy_iptables_needs_one_capability_more(
    executed: Callable[..., tuple[str, list[str], dict[str, str]]],
) -> None:
    _, argv, _ = executed(lambda: privileges.become_daemon(("net_raw",)))
    assert argv[4].endswith(",+net_raw") and argv[5].endswith(",+net_raw")
