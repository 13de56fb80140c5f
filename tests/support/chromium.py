"""A real Chromium without a window, driven over its debugging pipe by this interpreter alone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser")
ABSENT = "no Chromium here: apt-get install chromium"
_FLAGS = (
    *("--headless", "--remote-debugging-pipe", "--disable-gpu", "--no-first-run", "--disable-extensions"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
_ANSWER_S = 60
# The pipe has to be its descriptors 3 and 4.
_LAUNCH = """
import fcntl, os, sys
for place, given in zip((3, 4), [fcntl.fcntl(int(each), fcntl.F_DUPFD, 10) for each in sys.argv[1:3]]):
    os.dup2(given, place)
os.execvp(sys.argv[3], sys.argv[3:])
"""


@dataclass
class Tab:
    """One page; `events` are what Chromium told besides its answers."""

    command: Any  # to Chromium, a binary file
    answers: Any
    session: str = ""
    events: list[dict[str, Any]] = field(default_factory=list)
    _number: int = 0

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        self.command.write(json.dumps(message).encode() + b"\0")
        self.command.flush()
        while True:
            found = self._next()
            if found.get("id") == self._number:
                assert "error" not in found, (method, found)
                return dict(found["result"])

    def show(self, path: Path, width: int = 1200) -> None:
        """Load a file and wait until that is over."""
        self.events.clear()
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
        self.ask("Emulation.setDeviceMetricsOverride", **size)
        self.ask("Page.navigate", url=path.as_uri())
        while "Page.loadEventFired" not in self.heard():
            self._next()

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression; what asks is not the page, so no policy forbids it."""
        found = self.ask("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def press(self, key: str, code: int) -> None:
        given: dict[str, Any] = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        given |= {"text": "\r"} if key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            self.ask("Input.dispatchKeyEvent", type=kind, **given)

    def heard(self) -> list[str]:
        return [event["method"] for event in self.events]

    def told(self, method: str) -> list[dict[str, Any]]:
        return [event["params"] for event in self.events if event["method"] == method]

    def _next(self) -> dict[str, Any]:
        data = b""
        while not data.endswith(b"\0"):
            byte = self.answers.read(1)
            assert byte, "Chromium has ended"
            data += byte
        found: dict[str, Any] = json.loads(data[:-1])
        if "method" in found:
            self.events.append(found)
        return found


@contextmanager
def chromium() -> Iterator[Tab]:
    """A browser with a profile of its own, which is gone afterwards."""
    assert PROGRAM is not None
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []  # it refuses to be root with one
    to_read, to_write = os.pipe()
    from_read, from_write = os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        arguments = [PROGRAM, *_FLAGS, *sandbox, f"--user-data-dir={profile}", "about:blank"]
        launch = [sys.executable, "-I", "-c", _LAUNCH, str(to_read), str(from_write), *arguments]
        process = subprocess.Popen(
            launch, pass_fds=(to_read, from_write), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        os.close(to_read)
        os.close(from_write)
        try:
            with open(to_write, "wb") as command, open(from_read, "rb") as answers:
                yield _attached(Tab(command, answers))
        finally:
            process.terminate()
            process.wait(_ANSWER_S)


def _attached(tab: Tab) -> Tab:
    (target,) = [each for each in tab.ask("Target.getTargets")["targetInfos"] if each["type"] == "page"]
    tab.session = tab.ask("Target.attachToTarget", targetId=target["targetId"], flatten=True)["sessionId"]
    for domain in ("Page", "Network", "Log", "Runtime", "Accessibility"):
        tab.ask(f"{domain}.enable")
    return tab
