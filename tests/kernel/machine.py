"""A virtual machine that runs one Python script on a stock kernel: its initial file system, its console."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
BUILT = ROOT / "build" / "kernel"
BOOT_SECONDS = 300  # an emulated machine on a busy host; on an idle one it is done in twenty
_SCRIPT = ("__init__.py", "conformance.py", "in_guest.py")
_LOADER = "/lib64/ld-linux-x86-64.so.2"
# QEMU 7.2 damages the flags at CMPXCHG16B, on which kernels with SMP then fail.
_CPU = "qemu64,-cx16"


def initial_filesystem(needed: Iterable[str], extra: Mapping[str, bytes], target: Path) -> None:
    """Write a cpio archive to `target`: the interpreter with the files that it `needed`, where they are
    here, busybox, the modules, the script, and `extra` files by absolute path."""
    archive = _Archive()
    for path in {*needed, os.path.realpath(sys.executable), _LOADER}:
        archive.copy(path)
    for module in BUILT.glob("*.ko"):
        archive.file(f"/modules/{module.name}", module.read_bytes())
    for name in _SCRIPT:
        archive.file(f"/toposeal/kernel/{name}", (HERE / name).read_bytes())
    archive.file("/init", (HERE / "init").read_bytes())
    archive.file("/bin/busybox", Path(shutil.which("busybox") or "").read_bytes())
    for name, content in {**extra, "/environment": _environment()}.items():
        archive.file(name, content)
    target.write_bytes(archive.closed())


def boot(initrd: Path) -> str:
    """The machine's console from power on to power off. Raises TimeoutExpired after BOOT_SECONDS."""
    command = ["qemu-system-x86_64", "-M", "q35", "-accel", "tcg,thread=multi", "-cpu", _CPU]
    command += ["-smp", "2", "-m", "512", "-nodefaults", "-display", "none", "-no-reboot"]
    command += ["-serial", "stdio", "-kernel", str(BUILT / "vmlinuz"), "-initrd", str(initrd)]
    command += ["-append", "console=ttyS0 panic=-1 loglevel=0"]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, timeout=BOOT_SECONDS, check=True
    )
    return done.stdout.decode("utf-8", "replace").replace("\r\n", "\n")


def _environment() -> bytes:
    """What makes the interpreter find its modules where they are here."""
    paths = ["/toposeal", str(ROOT / "sidecar"), *(path for path in sys.path if os.path.isdir(path))]
    interpreter = os.path.realpath(sys.executable)
    return f"PYTHON={interpreter}\nexport PYTHONPATH={':'.join(paths)}\n".encode()


class _Archive:
    """cpio in the format `newc` (Linux, driver-api/early-userspace/buffer-format)."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._seen: set[str] = set()

    def copy(self, path: str) -> None:
        """A file of this machine, with every link on the way to it. Its time is kept: compiled modules
        are good for the time of their source alone."""
        real = os.path.realpath(path)
        self.file(real, Path(real).read_bytes(), int(os.stat(real).st_mtime))
        self._links(path)
        if ".so" in path:  # a library is looked for by a name that may be a link beside it
            for near in Path(real).parent.iterdir():
                if near.is_symlink() and str(near.resolve()) == real:
                    self._links(str(near))

    def file(self, name: str, content: bytes, time: int = 0) -> None:
        self._parents(name)
        self._entry(name, stat.S_IFREG | 0o755, content, time)

    def closed(self) -> bytes:
        self._entry("/TRAILER!!!", 0)
        return b"".join(self._parts)

    def _links(self, path: str) -> None:
        """Those among `path` and its parents, outermost first, each by the real name of its folder."""
        for step in [*reversed(Path(path).parents), Path(path)]:
            if step.is_symlink():
                name = os.path.join(os.path.realpath(step.parent), step.name)
                self._parents(name)
                self._entry(name, stat.S_IFLNK | 0o777, os.readlink(step).encode())
                self._links(os.path.join(os.path.dirname(name), os.readlink(step)))

    def _parents(self, name: str) -> None:
        for parent in list(reversed(Path(name).parents))[1:]:
            self._entry(str(parent), stat.S_IFDIR | 0o755)

    def _entry(self, name: str, mode: int, content: bytes = b"", time: int = 0) -> None:
        if name in self._seen:
            return
        self._seen.add(name)
        inner = name.lstrip("/")
        words = (len(self._seen), mode, 0, 0, 1, time, len(content), 0, 0, 0, 0, len(inner) + 1, 0)
        head = b"070701" + b"".join(b"%08X" % word for word in words) + inner.encode() + b"\0"
        self._parts += [_padded(head), _padded(content)]


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
