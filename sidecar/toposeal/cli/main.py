"""The `toposeal` command: loads the one command that is asked for, turns refusals into exit codes."""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from toposeal.cli.exits import Exit, exit_code
from toposeal.errors import ToposealError, printable
from toposeal.verification.anchors import VENDOR_ANCHORS
from toposeal.verification.model import TrustAnchors

# Command, its one line of help, the module whose `register` makes its parser.
COMMANDS = {
    "verify": ("check a running mesh from outside and pin its CAs", "toposeal.cli.verify"),
    "connect": ("a local port that leads to verified members alone", "toposeal.cli.connect"),
    "status": ("ask one member for its epoch, its leases and what it waits for", "toposeal.cli.status"),
    "history": (
        "list what a mesh has sealed, back from what is verified",
        "toposeal.cli.history",
    ),
    "trace": ("turn logs of sidecars into OpenTelemetry spans of their rounds", "toposeal.cli.trace"),
    "evidence": ("show or verify one quote, report or log; fetch collateral", "toposeal.cli.evidence"),
    "topology": ("draft, check, sign and digest the owner's declaration", "toposeal.cli.topology"),
    "inject": ("put the sidecar into the pods of Kubernetes manifests", "toposeal.cli.inject"),
    "webhook": ("do in a cluster what inject does; no security boundary", "toposeal.cli.webhook"),
    "run": ("attest this pod and open its network once the mesh is sealed", "toposeal.cli.run"),
    "doctor": ("run inside a pod: say what is missing there", "toposeal.cli.doctor"),
    "envoy": ("print the Envoy configuration that the daemon serves", "toposeal.cli.envoy"),
    "firewall": ("render, apply or check the pod's rules", "toposeal.cli.firewall"),
}

_LINE_LIMIT = 1000  # characters of one complaint
_SIGNALLED = 128  # what a shell adds to the signal's number


class Parser(argparse.ArgumentParser):
    """Usage errors exit 1, options are never abbreviated, and messages are safe for a terminal."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "allow_abbrev": False})

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        _complain(message)
        raise SystemExit(Exit.USAGE)


def entry(argv: Sequence[str] | None = None, anchors: TrustAnchors = VENDOR_ANCHORS) -> int:
    """Run one command; returns its exit code (`cli.exits`).

    Handlers find the roots they may trust as `args.anchors`; no argument can set them. Only the lab,
    which the release does not contain, calls this with other anchors than the vendors'.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    args = _parser(arguments).parse_args(arguments)
    args.anchors = anchors
    try:
        code = int(args.run(args))
        sys.stdout.flush()
        return code
    except ToposealError as error:
        for mismatch in error.mismatches:
            _complain(str(mismatch))
        return exit_code(error)
    except BrokenPipeError:
        # The reader has gone. Python would complain once more when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _SIGNALLED + signal.SIGPIPE
    except KeyboardInterrupt:
        return _SIGNALLED + signal.SIGINT


def _parser(arguments: Sequence[str]) -> Parser:
    """A parser that knows every command by name and only the asked one in full."""
    parser = Parser(prog="toposeal", description="Attest a distributed application as a whole.")
    parser.add_argument("--version", action=_Version)
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    asked = next((word for word in arguments if not word.startswith("-")), None)
    for name, (summary, module) in COMMANDS.items():
        if name == asked:
            importlib.import_module(module).register(subparsers)
        else:
            subparsers.add_parser(name, help=summary)
    return parser


class _Version(argparse.Action):
    def __init__(self, option_strings: Sequence[str], dest: str) -> None:
        super().__init__(option_strings, dest, nargs=0, help="print the version and exit")

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from importlib.metadata import version

        print(f"toposeal {version('toposeal')}")
        parser.exit()


def _complain(line: str) -> None:
    print(f"toposeal: {printable(line, _LINE_LIMIT)}", file=sys.stderr)
