"""What one pod was told: arguments, one measured file, or initdata that the hardware vouches for; checked
before anything is started."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass

from toposeal.daemon.config_file import KEYS, MEASURED, REQUIRED
from toposeal.daemon.entry import check_state_dir
from toposeal.errors import Reason, UsageError
from toposeal.evidence.bundle import EMPTY, Bundle
from toposeal.host.collateral_file import read_bundle
from toposeal.host.files import read_once
from toposeal.host.kds import Kds
from toposeal.host.pcs import Pcs
from toposeal.host.quote_sources import CONFIGFS_TSM, check_name
from toposeal.kubernetes.initdata import Initdata, from_annotation
from toposeal.limits import (
    MAX_INITDATA_VALUE,
    MAX_OWNER_ROOT_SIZE,
    MAX_TOPOLOGY_SIZE,
    PEER_PORT,
)
from toposeal.topology.accept import SignedTopology, accept
from toposeal.topology.owner import OwnerRoot

_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,252}[A-Za-z0-9])?|\[?[0-9A-Fa-f:.]{2,45}\]?")
_MAX_ENVELOPE = 2 * MAX_TOPOLOGY_SIZE  # base64 and signatures
_MAX_PEERS = 1024


@dataclass(frozen=True)
class Services:
    """The directory in which collateral is kept, and whom it is asked of."""

    cache: str
    pcs: Pcs
    kds: Kds


@dataclass(frozen=True)
class RunConfig:
    """Everything `toposeal run` goes by. Nothing else, and no environment, changes what it does."""

    role: str
    mesh: str
    owner: OwnerRoot
    topology: SignedTopology
    peers: tuple[tuple[str, int], ...]
    state_dir: str
    collateral: Bundle
    services: Services | None = None  # none: the file is all there is
    quote_source: str = CONFIGFS_TSM  # who is asked for quotes: one of quote_sources.NAMES
    event_log: str | None = None  # what the measured guest logs of RTMR3, if it does
    initdata: Initdata | None = None  # from whomever: true if the hardware reports its digest
    min_version: int = 1  # no older topology counts


def load_config(values: Mapping[str, str]) -> RunConfig:
    """Read and check what `values` name, by the keys of KEYS or, with `initdata`, without those of MEASURED.

    Raises UsageError or TopologyError.
    """
    initdata = read_initdata(values)
    measured = {} if initdata is None else _measured(initdata)
    cached = "collateral_cache" in values
    required = [key for key in REQUIRED if key not in measured and not (key == "collateral" and cached)]
    missing = [key for key in KEYS if (key in required or key in values) and not values.get(key)]
    if missing:
        raise UsageError.of(Reason.USAGE, missing[0], "nothing", "a value")
    owner = read_owner(values, initdata)
    told = told_by(values, initdata)
    signed = read_topology(told, owner)
    check_role(told["role"], signed)
    check_clock(signed)
    return RunConfig(
        role=told["role"],
        mesh=told["mesh"],
        owner=owner,
        topology=signed,
        peers=parse_peers(values["peers"]),
        state_dir=check_state_dir(values["state_dir"]),
        collateral=read_bundle(values["collateral"]) if "collateral" in values else EMPTY,
        services=read_services(values),
        quote_source=check_name(values.get("quote_source", CONFIGFS_TSM)),
        event_log=values.get("event_log"),
        initdata=initdata,
        min_version=_version(told["min_version"]),
    )


def told_by(values: Mapping[str, str], initdata: Initdata | None) -> dict[str, str]:
    """`values` with what the measured document says."""
    return {**values, **({} if initdata is None else _measured(initdata))}


def read_initdata(values: Mapping[str, str]) -> Initdata | None:
    """The document that `values` name, if they do. What is measured is told once. Raises UsageError."""
    if "initdata" not in values:
        return None
    for key in MEASURED:
        if key in values:
            raise UsageError.of(Reason.USAGE, key, "besides initdata", "one or the other")
    return from_annotation(read_once(values["initdata"], MAX_INITDATA_VALUE))


def _measured(initdata: Initdata) -> dict[str, str]:
    said = initdata.identity
    return {"role": said.role, "mesh": said.mesh, "owner": "", "min_version": str(said.min_version)}


def read_owner(values: Mapping[str, str], initdata: Initdata | None) -> OwnerRoot:
    """The root that `initdata` or else a file names. Raises UsageError or TopologyError."""
    if initdata is not None:
        return OwnerRoot.parse(initdata.identity.owner_root)
    return OwnerRoot.parse(read_once(values["owner"], MAX_OWNER_ROOT_SIZE))


def read_topology(told: Mapping[str, str], owner: OwnerRoot) -> SignedTopology:
    """The declaration, if `owner` has signed it for this mesh, in a version that is not too low. Raises
    UsageError or TopologyError.
    """
    envelope = read_once(told["topology"], _MAX_ENVELOPE)
    return accept(envelope, owner, told["mesh"], _version(told["min_version"]))


def check_role(role: str, signed: SignedTopology) -> None:
    """Raises UsageError unless the topology has it."""
    if role not in signed.topology.roles:
        raise UsageError.of(Reason.ROLE_UNKNOWN, "role", role, "a role of the topology")


def parse_peers(text: str) -> tuple[tuple[str, int], ...]:
    """`HOST:PORT,...`; names are resolved later, again and again, through untrusted DNS."""
    peers = tuple(_peer(item) for item in text.split(","))
    if len(peers) > _MAX_PEERS:
        raise UsageError.of(Reason.TOO_LARGE, "peers", len(peers), f"at most {_MAX_PEERS}")
    return peers


def _peer(item: str) -> tuple[str, int]:
    host, _, port = item.strip().rpartition(":")
    number = int(port) if port.isascii() and port.isdigit() and len(port) <= 5 else 0
    if not _HOST.fullmatch(host) or not 1 <= number <= 65_535:
        raise UsageError.of(Reason.USAGE, "peers", item, f"HOST:PORT, as in api:{PEER_PORT}")
    return host.strip("[]"), number


def read_services(values: Mapping[str, str]) -> Services | None:
    """Nothing is asked of anybody unless there is a place to keep the answers and the marks. Raises
    UsageError.
    """
    cache, roots = values.get("collateral_cache"), values.get("service_ca")
    if cache is None:
        for key in ("pccs", "kds", "service_ca"):
            if key in values:
                raise UsageError.of(Reason.USAGE, key, "no collateral_cache", "one beside it")
        return None
    pccs, kds = values.get("pccs"), values.get("kds")
    if roots is not None and pccs is None and kds is None:
        raise UsageError.of(Reason.USAGE, "service_ca", "neither pccs nor kds", "one beside it")
    return Services(
        cache=cache,
        pcs=Pcs.intel() if pccs is None else Pcs.pccs(pccs, roots),
        kds=Kds.amd() if kds is None else Kds.mirror(kds, roots),
    )


def _version(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 16 and int(text) >= 1):
        raise UsageError.of(Reason.USAGE, "min_version", text, "a positive integer")
    return int(text)


def check_clock(signed: SignedTopology) -> None:
    """The topology was signed in the past: a clock that says otherwise is wrong (O2). Raises UsageError."""
    now = int(time.time())
    if now < signed.topology.issued_at:
        raise UsageError.of(Reason.USAGE, "clock", now, f"at least issued_at, {signed.topology.issued_at}")
