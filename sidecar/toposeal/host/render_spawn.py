"""Starts the renderer's child. Imports next to nothing, so that the child imports while we do."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

from toposeal.host.child import confined

COMMAND = (sys.executable, "-I", "-m", "toposeal.host.render_child")
# A virtual environment below /root can be read by the daemon only with this, and so by its child.
_CAPABILITIES = ("dac_override",)


def spawn(command: Sequence[str] = COMMAND) -> subprocess.Popen[bytes]:
    """One child that waits for its plan; it dies with the calling thread. Raises PodError."""
    return subprocess.Popen(  # noqa: S603 (absolute paths, no environment)
        confined(command, uid=None, capabilities=_CAPABILITIES),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={},
    )
