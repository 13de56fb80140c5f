"""`toposeal webhook`: what `inject` does, where pods are made. For convenience: no security boundary."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from toposeal.cli.exits import Exit
from toposeal.cli.injection import (
    add_declared,
    add_settings,
    kind_of,
    object_name,
    read_declared,
    read_initdata,
    read_settings,
    read_text,
)
from toposeal.errors import Reason, UsageError, printable
from toposeal.host.files import read_once
from toposeal.kubernetes import webhook
from toposeal.kubernetes.inject import Injection, check_digests
from toposeal.limits import MAX_COLLATERAL_SIZE, MAX_INITDATA_SIZE, MAX_OWNER_ROOT_SIZE, MAX_TOPOLOGY_SIZE

_LINE_LIMIT = 1000


def register(subparsers: Any) -> None:
    """Add `webhook` and its commands."""
    parser = subparsers.add_parser("webhook", help="do in a cluster what inject does; no security boundary")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _register_serve(commands)
    _register_manifests(commands)


def _register_serve(commands: Any) -> None:
    command = commands.add_parser(
        "serve",
        help="answer an API server's reviews of pods over HTTPS",
        description="Give each new pod with the label toposeal.dev/role what inject gives it. This is no "
        "security boundary: whoever runs the API server decides whether it asks.",
    )
    add_declared(command)
    add_settings(command)
    add = command.add_argument
    add("--cert", metavar="FILE", required=True, help="certificate chain, PEM; read again each minute")
    add("--key", metavar="FILE", required=True, help="its key, PEM, without a password")
    add("--address", metavar="ADDRESS", help="where to listen (default: everywhere)")
    add("--port", metavar="PORT", type=int, default=webhook.PORT, help="(default: %(default)s)")
    command.set_defaults(run=_serve)


def _register_manifests(commands: Any) -> None:
    command = commands.add_parser(
        "manifests",
        help="print the objects by which a cluster runs it",
        description="Services for members to find each other, and the webhook: ConfigMap, Deployment, "
        f"Service and configuration. Its certificate is the Secret {webhook.NAME}, which is not among them.",
    )
    add_declared(command)
    add_settings(command)
    add = command.add_argument
    add("--namespace", metavar="NAME", required=True, help="namespace of the application")
    add("--webhook-namespace", metavar="NAME", default="toposeal-system", help="(default: %(default)s)")
    add("--ca", metavar="FILE", required=True, help="CA of the webhook's certificate, PEM")
    command.set_defaults(run=_manifests)


def _injection(args: argparse.Namespace) -> Injection:
    """All roles, since their pods come one by one. Raises ToposealError."""
    owner, topology = read_declared(args)
    kind = args.tee or kind_of(topology, topology.roles)
    initdata = read_initdata(args, owner, topology, topology.roles, kind)
    injection = Injection(topology, kind, initdata, read_settings(args))
    check_digests(topology.roles.values(), injection)
    return injection


def _serve(args: argparse.Namespace) -> int:
    """Imports late: a usage error need not wait for them."""
    import asyncio
    import signal
    from functools import partial

    from toposeal.host.admission_server import AdmissionServer
    from toposeal.kubernetes.admission import answer

    if not 0 <= args.port <= 65535:
        raise UsageError.of(Reason.USAGE, "--port", args.port, "0 to 65535")
    if args.address == "":
        raise UsageError.of(Reason.USAGE, "--address", "nothing", "an address, or no --address")
    server = AdmissionServer(partial(answer, injection=_injection(args)), args.cert, args.key, _tell)

    async def serve() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await server.serve(args.address, args.port, stop, lambda port: _tell(f"listening at port {port}"))

    asyncio.run(serve())
    return Exit.OK


def _tell(line: str) -> None:
    print(f"toposeal: {printable(line, _LINE_LIMIT)}", file=sys.stderr, flush=True)


def _manifests(args: argparse.Namespace) -> int:
    injection = _injection(args)
    for option, value in (("--namespace", args.namespace), ("--webhook-namespace", args.webhook_namespace)):
        object_name(option, value, "Namespace")
    files, arguments = _files(args)
    settings = injection.settings
    arguments += [f"--min-version={args.min_version}", f"--tee={injection.kind}"]
    arguments += [f"--image={settings.image}", f"--runtime-class={settings.runtime_class}"]
    arguments += [f"--config-map={settings.config_map}"]
    place = webhook.Place(args.webhook_namespace, args.namespace, settings.image, _certificates(args.ca))
    sys.stdout.write(webhook.manifests(injection.topology, place, arguments, files))
    return Exit.OK


def _files(args: argparse.Namespace) -> tuple[dict[str, str], list[str]]:
    """By the names that they have in the ConfigMap; and the options that say where the webhook has them."""
    files = {
        "topology.yaml": read_text(args.topology, MAX_TOPOLOGY_SIZE),
        "owner.json": read_text(args.owner, MAX_OWNER_ROOT_SIZE),
    }
    options = [f"--{name.partition('.')[0]}={webhook.FILES}/{name}" for name in files]
    for option in args.add:
        place, _, path = option.partition("=")
        name = place.replace("/", ".")
        files[name] = read_text(path, MAX_INITDATA_SIZE)
        options.append(f"--add={place}={webhook.FILES}/{name}")
    return files, options


def _certificates(path: str) -> bytes:
    """Those of a file, and nothing else of it: what a cluster is told is for everybody."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    try:
        found = x509.load_pem_x509_certificates(read_once(path, MAX_COLLATERAL_SIZE))
    except ValueError as error:
        raise UsageError.of(Reason.USAGE, "--ca", error, "certificates, PEM") from error
    return b"".join(one.public_bytes(Encoding.PEM) for one in found)
