"""The `toposeal` command: usage errors, exit codes by cause, one safe line per mismatch, laziness."""

from __future__ import annotations

import argparse
import importlib
import subprocess
import sys
import types
from collections.abc import Callable

import pytest

from toposeal.cli import main
from toposeal.cli.exits import Exit, exit_code
from toposeal.errors import (
    EvidenceError,
    LocalProtocolError,
    Mismatch,
    NetworkError,
    PodError,
    PolicyError,
    QuoteSourceError,
    Reason,
    RemoteProtocolError,
    TopologyError,
    ToposealError,
    UsageError,
)
from toposeal.verification.anchors import VENDOR_ANCHORS
from toposeal.verification.model import TrustAnchors

Handler = Callable[[argparse.Namespace], int]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Callable[[Handler], None]:
    """Make `toposeal probe [--name NAME]` run a handler of the test's own."""

    def install(handler: Handler) -> None:
        def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
            parser = subparsers.add_parser("probe")
            parser.add_argument("--name")
            parser.set_defaults(run=handler)

        module = types.ModuleType("probe_command")
        module.register = register  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "probe_command", module)
        monkeypatch.setitem(main.COMMANDS, "probe", ("a probe", "probe_command"))

    return install


def raising(error: BaseException) -> Handler:
    def handler(_: argparse.Namespace) -> int:
        raise error

    return handler


def test_the_handlers_code_is_the_exit_code(command: Callable[[Handler], None]) -> None:
    command(lambda args: 4 if args.name == "x" else 0)
    assert main.entry(["probe", "--name", "x"]) == 4
    assert main.entry(["probe"]) == 0


@pytest.mark.parametrize(
    "argv",
    [[], ["nope"], ["probe", "--nam", "x"], ["probe", "--name"], ["probe", "extra"], ["--insecure", "probe"]],
)
def test_V9_usage_errors_exit_1(command: Callable[[Handler], None], argv: list[str]) -> None:
    command(lambda _: 0)
    with pytest.raises(SystemExit) as caught:
        main.entry(argv)
    assert caught.value.code == 1


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError.of(Reason.USAGE, "f", 1, 2), 1),
        (EvidenceError.of(Reason.QUOTE_SIGNATURE, "f", 1, 2), 2),
        (RemoteProtocolError.of(Reason.MALFORMED, "f", 1, 2), 2),
        (NetworkError.of(Reason.NETWORK, "f", 1, 2), 3),
        (PolicyError.of(Reason.TCB_STATUS, "f", 1, 2), 4),
        (PodError.of(Reason.FIREWALL, "f", 1, 2), 5),
        (QuoteSourceError.of(Reason.QUOTE_SOURCE, "f", 1, 2), 5),
        (LocalProtocolError.of(Reason.ILLEGAL_EVENT, "f", 1, 2), 5),
        (TopologyError.of(Reason.TOPOLOGY_INVALID, "f", 1, 2), 1),
        (TopologyError.of(Reason.ROLES_INDISTINGUISHABLE, "f", 1, 2), 1),
        (TopologyError.of(Reason.TOPOLOGY_THRESHOLD, "f", 1, 2), 2),
        (TopologyError.of(Reason.TOPOLOGY_ROLLBACK, "f", 1, 2), 4),
    ],
)
def test_V9_exit_codes_tell_the_cause(
    command: Callable[[Handler], None], error: ToposealError, code: int
) -> None:
    command(raising(error))
    assert main.entry(["probe"]) == code == exit_code(error)


def test_every_topology_reason_has_a_cause() -> None:
    reasons = [r for r in Reason if r.startswith("topology_")] + [Reason.ROLES_INDISTINGUISHABLE]
    assert Exit.POD not in {exit_code(TopologyError.of(reason, "f", 1, 2)) for reason in reasons}


def test_C2_one_line_per_mismatch_without_terminal_escapes(
    command: Callable[[Handler], None], capsys: pytest.CaptureFixture[str]
) -> None:
    first = Mismatch(Reason.MALFORMED, "role", "\x1b[2J\u202e\n", "a name")
    second = Mismatch(Reason.MALFORMED, "mesh", "x" * 5000, "a name")
    command(raising(RemoteProtocolError(first, second)))
    main.entry(["probe"])
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "toposeal: role: found \\u{1b}[2J\\u{202e}\\u{a}, expected a name [malformed]"
    assert len(lines) == 2 and len(lines[1]) < 1100


def test_C2_usage_errors_escape_what_was_typed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main.entry(["\x1b]0;title\x07"])
    assert "\x1b" not in capsys.readouterr().err


def test_E17_the_vendors_roots_are_the_default_and_no_argument_changes_them(
    command: Callable[[Handler], None],
) -> None:
    seen: list[TrustAnchors] = []

    def handler(args: argparse.Namespace) -> int:
        seen.append(args.anchors)
        return 0

    command(handler)
    other = TrustAnchors(b"lab")
    main.entry(["probe"])
    main.entry(["probe"], other)
    assert seen == [VENDOR_ANCHORS, other]
    with pytest.raises(SystemExit):
        main.entry(["probe", "--anchors", "x"])


def test_a_defect_is_not_dressed_up_as_a_refusal(command: Callable[[Handler], None]) -> None:
    command(raising(RuntimeError("a defect")))
    with pytest.raises(RuntimeError):
        main.entry(["probe"])


def test_an_interrupt_exits_like_the_signal(command: Callable[[Handler], None]) -> None:
    command(raising(KeyboardInterrupt()))
    assert main.entry(["probe"]) == 130


def test_C3_a_closed_pipe_ends_quietly_and_not_with_0() -> None:
    script = (
        "import sys, types; from toposeal.cli import main\n"
        "def run(args):\n    print('x' * 1000000); return 0\n"
        "probe = types.ModuleType('probe')\n"
        "probe.register = lambda s: s.add_parser('probe').set_defaults(run=run)\n"
        "sys.modules['probe'] = probe; main.COMMANDS['probe'] = ('', 'probe')\n"
        "sys.exit(main.entry(['probe']))\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert child.stdout is not None and child.stderr is not None
    child.stdout.close()
    assert child.stderr.read() == ""
    child.stderr.close()
    assert child.wait() == 141


@pytest.mark.parametrize("name", main.COMMANDS)
def test_every_command_registers_itself_under_its_name(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    importlib.import_module(main.COMMANDS[name][1])
    with pytest.raises(SystemExit) as caught:
        main.entry([name, "--help"])
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: toposeal {name}")
