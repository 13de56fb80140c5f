"""`--keep`: the mesh stays up, and a person is told how to walk around in it."""

from __future__ import annotations

import signal

from toposeal_lab.apps import APP_UID
from toposeal_lab.scenario import ATTESTATION_PORT, INGRESS_PORT, MESH, VERSION
from toposeal_lab.stolen import steal
from toposeal_lab.timeline import Timeline
from toposeal_lab.world import World

_APP = f"setpriv --reuid {APP_UID} --regid {APP_UID} --clear-groups --bounding-set=-all"


def keep_running(made: World, timeline: Timeline) -> None:
    """Say what there is to try, then wait for SIGINT, SIGTERM or SIGHUP, which raise KeyboardInterrupt."""
    timeline.say(*guide(made))
    try:
        while True:
            signal.pause()
    except KeyboardInterrupt:
        timeline.say("")


def guide(made: World) -> list[str]:
    """Commands for a root shell; the mesh must be sealed for the ones that fetch something."""
    node = f"ip netns exec {made.outside.namespace}"
    web, api = made.members["web"], made.members["api-1"]
    inside = f"ip netns exec {api.pod.namespace}"
    verify = f"toposeal-lab verify --anchors {made.file('root.der')} --owner {made.file('owner.json')}"
    lines = [
        "",
        "The mesh stays up until Ctrl-C. In another root shell (with the virtual environment's bin in PATH):",
        "",
        "# verify it from outside",
        f"{node} {verify} --mesh {MESH} --min-version {VERSION} https://{web.pod.ipv4}:{ATTESTATION_PORT}",
        "",
        "# a shell in api-1 as its application, and what it may and may not do",
        f"{inside} {_APP} bash",
        f"{inside} {_APP} redis-cli -h db PING",
        f"{inside} {_APP} curl -sS --max-time 5 http://web:8080/",
        "",
        "# its rules, what its Envoy counts and runs, and its files",
        f"{inside} nft list ruleset",
        f"curl -s --unix-socket {api.layout.admin} http://envoy/stats?filter=ssl.fail",
        f"curl -s --unix-socket {api.layout.admin} http://envoy/listeners",
        f"ls -lR {api.directory}",
        "",
        "# try to fence it: the pod stays closed",
        f"{inside} nft flush ruleset",
        "",
    ]
    return lines[:5] + _fetch(made, node) + lines[5:]


def _fetch(made: World, node: str) -> list[str]:
    pins, web = made.file("pins.pem"), made.members["web"]
    if not pins.exists():
        return []
    host = steal(web).domain
    connect = f"--connect-to ::{web.pod.ipv4}:{INGRESS_PORT}"
    return [
        "",
        "# fetch through it",
        f"{node} curl --cacert {pins} {connect} https://{host}:{INGRESS_PORT}/api/",
    ]
