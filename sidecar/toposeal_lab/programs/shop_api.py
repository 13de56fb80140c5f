"""The shop's `api`: a small HTTP service that counts its visits in redis, over a plain socket.

usage: shop_api.py NAME REDIS_HOST   serves port 8080 on every address
"""

from __future__ import annotations

import socket
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

NAME, REDIS_HOST = sys.argv[1:3] if __name__ == "__main__" else ("", "")
REDIS_PORT, HTTP_PORT = 6379, 8080


class Server(ThreadingHTTPServer):
    """IPv6 and IPv4 on one socket."""

    address_family = socket.AF_INET6


class Visit(BaseHTTPRequestHandler):
    """GET / counts one visit."""

    protocol_version = "HTTP/1.1"  # connections are kept

    def do_GET(self) -> None:
        try:
            status, text = 200, f"api {NAME}: visit {increment('visits')}\n"
        except OSError as error:
            status, text = 503, f"api {NAME}: no database: {error}\n"
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Quiet."""


def increment(key: str) -> int:
    """INCR in redis' own protocol; raises OSError for anything but a number."""
    with socket.create_connection((REDIS_HOST, REDIS_PORT), timeout=5) as redis:
        redis.sendall(f"INCR {key}\r\n".encode())
        answer = redis.makefile("rb").readline()
    if not answer.startswith(b":"):
        raise ConnectionError(f"redis answered {answer!r}")
    return int(answer[1:])


if __name__ == "__main__":
    Server(("::", HTTP_PORT), Visit).serve_forever()
