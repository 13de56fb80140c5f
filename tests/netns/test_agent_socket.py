"""E16: an agent's socket that is the daemon's alone gives the daemon its quotes, and passes its own test."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.agents import coco, dstack, raw, serving
from support.tdx import HOST, WEB

from toposeal.host.privileges import CAPABILITIES
from toposeal.host.quote_access import Interfaces, check
from toposeal.limits import DAEMON_UID
from toposeal_lab.pods import Node, Pod
from toposeal_lab.tsm_providers import TdxProvider

ASK = """
import sys
from toposeal.host.privileges import harden
from toposeal.host.coco_agent import coco_agent
from toposeal.host.dstack_agent import dstack_agent
from toposeal.evidence.tdx_quote import parse_tdx_quote
harden()
source = {"coco-aa": coco_agent, "dstack": dstack_agent}[sys.argv[1]](sys.argv[2])
try:
    print(parse_tdx_quote(source.report(b"r" * 64, 5.0).outblob).report_data.decode())
except Exception as error:
    print(error)
"""
TDX = TdxProvider(HOST, WEB)
AGENTS = {"coco-aa": coco, "dstack": dstack}

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where everybody may go: what keeps strangers out has to be the socket itself."""
    with tempfile.TemporaryDirectory(prefix="toposeal-agent-") as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


def asked(pod: Pod, name: str, path: Path, uid: int, *capabilities: str) -> str:
    caps = ",".join(("-all", *(f"+{each}" for each in capabilities)))
    user = (f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--no-new-privs")
    become = ("setpriv", *user, f"--inh-caps={caps}", f"--ambient-caps={caps}", "--")
    done = pod.run([*become, sys.executable, "-I", "-c", ASK, name, str(path)])
    return done.stdout.decode()


@pytest.mark.parametrize("name", AGENTS)
@pytest.mark.parametrize(("group", "mode"), [(0, 0o600), (0, 0o755), (DAEMON_UID, 0o660)])
def test_E16_the_daemon_alone_asks_an_agent(
    name: str, group: int, mode: int, folder: Path, node: Node
) -> None:
    pod, path = node.pod("a"), folder / "agent.sock"
    nothing = str(folder / "nothing")
    with serving(path, AGENTS[name](lambda report_data: raw(report_data, TDX))) as seen:
        os.chown(path, 0, group)
        path.chmod(mode)
        assert asked(pod, name, path, DAEMON_UID, *CAPABILITIES) == "r" * 64 + "\n"
        # A stranger who may read the daemon's code, and nothing else that is not his.
        assert "PermissionError" in asked(pod, name, path, 1000)
        assert len(seen) == 1
        daemons = Interfaces(nothing, (), (), (str(path),), ())
        found = [each.found for each in check(daemons)]
        # This test runs as root: to root's group the daemon's is another's, and is told as one.
        assert found == ([f"group {DAEMON_UID}, mode 0660"] if group else [])
        path.chmod(0o666)
        assert any("an ordinary user" in each.found for each in check(daemons))
