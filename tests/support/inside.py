"""What the namespace tests do inside pods: Python as any user, the lockdown, the canary, echo servers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from toposeal.dataplane.firewall import Backend
from toposeal.host import firewall
from toposeal_lab.pods import Pod

APP_UID, ENVOY_UID, DAEMON_UID = 1000, 1337, 1338
MARKER = b"CANARY-0123456789-abcdef-MARK"
# The distribution's Python: every user can run it, wherever this one's environment is.
PYTHON = "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else os.path.realpath(sys.executable)
BACKENDS = tuple(Backend)
CANARY = Path(__file__).with_name("canary.py").read_text()


def lockdown(pod: Pod, backend: Backend = Backend.NFT) -> None:
    """The product's own `apply`, in the pod's network."""
    with pod.inside():
        firewall.apply(backend)


def python(code: str, *arguments: str) -> list[str]:
    return [PYTHON, "-I", "-c", code, *arguments]


def run_python(pod: Pod, code: str, *arguments: str, uid: int | None, timeout: float = 20) -> str:
    """Run `code` in `pod` to its end; its standard output."""
    return pod.run(python(code, *arguments), uid=uid, timeout=timeout).stdout.decode()


def spawn_python(pod: Pod, code: str, *arguments: str, uid: int | None) -> subprocess.Popen[bytes]:
    """Start `code` in `pod` and wait until it has printed its first line, which must be `ready`."""
    child = pod.spawn(python(code, *arguments), uid=uid, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"ready\n"
    return child


def read_line(child: subprocess.Popen[bytes]) -> str:
    assert child.stdout is not None
    return child.stdout.readline().decode().strip()


def tell(child: subprocess.Popen[bytes], line: str) -> None:
    assert child.stdin is not None
    child.stdin.write(f"{line}\n".encode())
    child.stdin.flush()


def canary(pod: Pod, *addresses: str, uid: int | None) -> dict[str, str]:
    """Send MARKER over every kind of socket to every address: attempt -> "sent" or errno."""
    marker = MARKER.decode("ascii")
    out = run_python(pod, CANARY, marker, "eth0", *addresses, uid=uid, timeout=60)
    results: dict[str, str] = json.loads(out)
    return results
