"""The shop's programs, as they come: nginx, a small HTTP service, redis-server. None knows of toposeal.

Each runs as an ordinary user without any capability and listens on every address of its pod.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from toposeal_lab import programs
from toposeal_lab.nginx import nginx
from toposeal_lab.pods import SEARCH_PATH, Pod
from toposeal_lab.scenario import HTTP_PORT, REDIS_PORT

APP_UID = 1000

_SHOP = """
listen {port};
listen [::]:{port};
location = / {{ return 200 "the shop is open\\n"; }}
location /api/ {{ proxy_pass http://api:{port}/; proxy_connect_timeout 5s; }}
"""


def start_app(pod: Pod, role: str, directory: Path) -> None:
    """Start the program of `role` in `pod`; `directory` becomes its own. Output goes to `log` there."""
    directory.mkdir(mode=0o755)
    os.chown(directory, APP_UID, APP_UID)
    argv = {"web": _nginx, "api": _api, "db": _redis}[role](pod, directory)
    with (directory / "log").open("wb") as log:
        pod.spawn(argv, uid=APP_UID, stdout=log, stderr=log, cwd=directory)


def install(program: str, directory: Path) -> str:
    """Copy one of `toposeal_lab.programs` where any user can read it; returns its path."""
    target = directory / f"{program}.py"
    shutil.copyfile(Path(programs.__file__).with_name(target.name), target)
    target.chmod(0o644)
    return str(target)


def system_python() -> str:
    """The machine's own interpreter: ours may lie where no other user gets to."""
    return shutil.which("python3", path=SEARCH_PATH) or sys.executable


def _nginx(pod: Pod, directory: Path) -> list[str]:
    return nginx(directory, _SHOP.format(port=HTTP_PORT))


def _api(pod: Pod, directory: Path) -> list[str]:
    return [system_python(), "-I", install("shop_api", directory), pod.name, "db"]


def _redis(pod: Pod, directory: Path) -> list[str]:
    options = {"port": str(REDIS_PORT), "dir": str(directory), "save": "", "protected-mode": "no"}
    flags = [word for name, value in options.items() for word in (f"--{name}", value)]
    return ["redis-server", "--bind", "*", "-::*", *flags]
