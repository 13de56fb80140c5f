"""The `toposeal-lab` command: demo, bench, simulate, and `run`, `doctor`, `verify`, `connect` on a simulated
platform.

Those four are the production commands; the lab adds other roots, another configfs directory and, for one
member, a leaked key. Nothing of this is in the release image.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from toposeal.cli.exits import exit_code
from toposeal.cli.main import Parser
from toposeal.errors import ToposealError, printable

# Command, its one line of help, the module whose `register` makes its parser.
COMMANDS = {
    "demo": ("three roles of real programs seal, serve and are attacked", "toposeal_lab.demo"),
    "bench": ("measure this machine", "toposeal_lab.bench"),
    "simulate": ("the protocol under faults, seeded", "toposeal_lab.simulate"),
    "run": ("toposeal run on a simulated platform", "toposeal_lab.lab_run"),
    "doctor": ("toposeal doctor in a pod with a simulated platform", "toposeal_lab.lab_doctor"),
    "verify": ("toposeal verify under a simulated vendor's root", "toposeal_lab.lab_verify"),
    "connect": ("toposeal connect under a simulated vendor's root", "toposeal_lab.lab_connect"),
    "platform": ("serve the simulated platform for pods that others run", "toposeal_lab.platform"),
}
_INTERRUPTED = 130
_LINE_LIMIT = 1000


def entry(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code: that of production for these, else 0 or 1."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    args = _parser(arguments).parse_args(arguments)
    try:
        return int(args.run(args))
    except ToposealError as error:
        for mismatch in error.mismatches:
            print(f"toposeal-lab: {printable(mismatch, _LINE_LIMIT)}", file=sys.stderr)
        return int(exit_code(error))
    except KeyboardInterrupt:
        return _INTERRUPTED


def _parser(arguments: Sequence[str]) -> Parser:
    """A parser that knows every command by name and only the asked one in full."""
    parser = Parser(prog="toposeal-lab", description="A simulated platform for toposeal, on this machine.")
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    asked = next((word for word in arguments if not word.startswith("-")), None)
    for name, (summary, module) in COMMANDS.items():
        if name == asked:
            importlib.import_module(module).register(subparsers)
        else:
            subparsers.add_parser(name, help=summary)
    return parser
