"""Where real programs talk: two pods without us, and two of a sealed mesh; and how the programs start."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from support import conversations
from support.daemons import SEAL_S, world
from support.inside import APP_UID, python, spawn_python
from toposeal_lab.nginx import nginx
from toposeal_lab.pods import Node, Pod

NGINX, POSTGRES, REDIS, GRPC = 8080, 5432, 6379, 50051
PORTS = (NGINX, POSTGRES, REDIS, GRPC, *conversations.SERVERS, conversations.HTTP, conversations.NOBODY)
LARGE = 1 << 30
CONVERSATIONS = Path(conversations.__file__).read_text()


@dataclass(frozen=True)
class Place:
    """A client's pod, a server's pod, and the name under which the one reaches the other."""

    name: str
    client: Pod
    server: Pod
    host: str
    directory: Path  # for the programs' files: any user may read, APP_UID may write

    def converse(self, kind: str, size: int = 0, timeout_s: float = 60) -> str:
        """What one client of `conversations` says."""
        code = python(CONVERSATIONS, kind, self.host, str(size))
        return self.client.run(code, uid=APP_UID, timeout=timeout_s).stdout.decode().removesuffix("\n")

    def run(self, *argv: str, timeout_s: float = 120, input: bytes | None = None) -> str:
        """What a program of the client's pod says; a failure raises."""
        done = self.client.run(argv, uid=APP_UID, timeout=timeout_s, input=input)
        return done.stdout.decode()

    def serve(self, argv: Sequence[str], uid: int = APP_UID) -> subprocess.Popen[bytes]:
        """Start a program in the server's pod; its output is kept in a file."""
        with (self.directory / f"{Path(argv[0]).name}.log").open("ab") as log:
            return self.server.spawn(argv, uid=uid, stdout=log, stderr=log, cwd=self.directory)


@contextmanager
def direct() -> Iterator[Place]:
    """Two pods without rules, Envoys or daemons: how the programs behave by themselves."""
    with Node() as node, _directory() as directory:
        client, server = node.pod("web"), node.pod("db")
        yield Place("direct", client, server, server.ipv4, directory)


@contextmanager
def sealed() -> Iterator[Place]:
    """A sealed mesh of real daemons and Envoys; the programs know nothing of it but a name."""
    with world({"web": "web", "db": "db"}, ports=PORTS) as made, _directory() as directory:
        for name in made.members:
            made.start(name)
        for member in made.members.values():
            member.wait("gate", SEAL_S, state="open")
        yield Place("sealed", made["web"].pod, made["db"].pod, "db", directory)
        fenced = [member.events("fence") for member in made.members.values()]
        assert fenced == [[], []]


@contextmanager
def _directory() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="toposeal-programs-"))
    try:
        os.chown(path, APP_UID, APP_UID)
        path.chmod(0o755)
        yield path
    finally:
        shutil.rmtree(path)


def start_all(place: Place) -> None:
    """Every server; nginx with a file `large` of LARGE bytes."""
    start_nginx(place, large=LARGE)
    start_redis(place)
    start_conversations(place)
    start_grpc(place)
    start_postgres(place)


_SERVER = """
listen {port};
location = / {{ return 200 "hello\\n"; }}
location /files/ {{ alias {directory}/files/; }}
"""


def start_nginx(place: Place, **files: int) -> None:
    """`files`: names and sizes in bytes of files of zeros under /files/."""
    (place.directory / "files").mkdir(exist_ok=True)
    for name, size in files.items():
        with (place.directory / "files" / name).open("wb") as file:
            file.truncate(size)
    place.serve(nginx(place.directory, _SERVER.format(directory=place.directory, port=NGINX)))
    listening(place, NGINX)


def start_redis(place: Place) -> None:
    options = {"port": str(REDIS), "dir": str(place.directory), "save": "", "protected-mode": "no"}
    flags = [word for name, value in options.items() for word in (f"--{name}", value)]
    place.serve(["redis-server", "--bind", "*", *flags])
    listening(place, REDIS)


def start_conversations(place: Place) -> None:
    spawn_python(place.server, CONVERSATIONS, "serve", uid=APP_UID)


_GRPC = """
import sys
import grpc
from concurrent.futures import ThreadPoolExecutor
echo = grpc.stream_stream_rpc_method_handler(lambda requests, context: requests)
service = grpc.method_handlers_generic_handler("test.Echo", {"Stream": echo})
server = grpc.server(ThreadPoolExecutor(8))
server.add_generic_rpc_handlers((service,))
server.add_insecure_port("0.0.0.0:" + sys.argv[1])
server.start()
server.wait_for_termination()
"""


def start_grpc(place: Place) -> None:
    place.serve([sys.executable, "-I", "-c", _GRPC, str(GRPC)])
    listening(place, GRPC)


def start_postgres(place: Place) -> None:
    """A new cluster on the server's pod that wants a password, `secret`, of its user `app`."""
    bin_directory = max(Path("/usr/lib/postgresql").glob("*/bin"))
    user = pwd.getpwnam("postgres")
    data, password = place.directory / "pg", place.directory / "password"
    password.write_text("secret\n")
    data.mkdir(mode=0o700)
    os.chown(data, user.pw_uid, user.pw_gid)
    how = ["-D", str(data), "-U", "app", "--pwfile", str(password), "-A", "scram-sha-256", "--no-sync"]
    place.server.run([str(bin_directory / "initdb"), *how], uid=user.pw_uid, gid=user.pw_gid, timeout=60)
    with (data / "pg_hba.conf").open("a") as hba:
        hba.write("host all all 0.0.0.0/0 scram-sha-256\n")
    settings = {"listen_addresses": "*", "unix_socket_directories": str(data), "fsync": "off"}
    options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    place.serve(
        [str(bin_directory / "postgres"), "-D", str(data), "-p", str(POSTGRES), *options], user.pw_uid
    )
    listening(place, POSTGRES)


_LISTENING = """
import socket, sys, time
end = time.monotonic() + 20
while True:
    with socket.socket() as sock:
        if not sock.connect_ex(("127.0.0.1", int(sys.argv[1]))):
            break
    assert time.monotonic() < end
    time.sleep(0.05)
"""


def listening(place: Place, port: int) -> None:
    """Wait until a program of the server's pod accepts connections."""
    place.server.run(python(_LISTENING, str(port)), uid=APP_UID, timeout=30)
