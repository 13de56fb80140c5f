"""nginx as an ordinary user runs it: in the foreground, with every file of its own in one directory."""

from __future__ import annotations

from pathlib import Path

_CONFIGURATION = """\
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log stderr crit;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  sendfile on;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
{http}
  server {{
{server}
  }}
}}
"""


def nginx(directory: Path, server: str, http: str = "") -> list[str]:
    """Write the configuration with the directives of its one `server` block, and of the `http` block around
    it, to `directory`; returns the command that serves it."""
    config = directory / "nginx.conf"
    config.write_text(_CONFIGURATION.format(directory=directory, server=server, http=http))
    return ["nginx", "-c", str(config), "-e", "stderr"]
