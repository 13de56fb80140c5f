"""All that a daemon with these values would need here, each thing looked at by itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar

from toposeal.daemon.config import (
    check_clock,
    check_role,
    parse_peers,
    read_initdata,
    read_owner,
    read_services,
    read_topology,
    told_by,
)
from toposeal.daemon.entry import check_state_dir
from toposeal.dataplane.firewall import Backend
from toposeal.errors import ToposealError
from toposeal.gate.doctor import Fine, Look, Unknown, Wrong
from toposeal.host import doctor_looks
from toposeal.host.collateral_file import read_bundle
from toposeal.host.configfs_tsm import REPORT_DIRECTORY
from toposeal.host.doctor_looks import looked
from toposeal.host.privileges import CAPABILITIES
from toposeal.host.quote_sources import CONFIGFS_TSM
from toposeal.kubernetes.initdata import Initdata
from toposeal.topology.accept import SignedTopology

S = TypeVar("S")
T = TypeVar("T")


def look_around(
    values: Mapping[str, str], report_dir: str | None, capabilities: int | None, *, quote: bool
) -> tuple[dict[str, Look], tuple[str, ...]]:
    """Each look by the name of its check, and the capabilities that a daemon needs here.

    `values` are those of `daemon.config`, as many as are known; `report_dir` None is the kernel's own;
    `capabilities` the effective set of this process. Blocks for a second, with `quote` for up to a minute.
    """
    back_end, backend = doctor_looks.back_end(capabilities)
    looks = {
        "setpriv": doctor_looks.setpriv(),
        "envoy": doctor_looks.envoy(),
        "quotes": doctor_looks.quotes(
            values.get("quote_source", CONFIGFS_TSM), report_dir or REPORT_DIRECTORY, quote
        ),
        "back end": back_end,
        "rules": doctor_looks.rules(backend),
        "state directory": looked(lambda: doctor_looks.state_directory(check_state_dir(values["state_dir"]))),
        **look_at_files(values),
    }
    # Legacy iptables speaks to the kernel through a raw socket.
    return looks, (*CAPABILITIES, *(("net_raw",) if backend is Backend.LEGACY else ()))


def look_at_files(values: Mapping[str, str]) -> dict[str, Look]:
    """What was given, by the rules of `load_config`; what rests on something refused cannot be told."""
    looks: dict[str, Look] = {}
    initdata = _attempt(lambda: read_initdata(values))
    if "initdata" in values:
        looks["initdata"] = initdata if isinstance(initdata, Wrong) else Fine("well-formed")
    told = values if isinstance(initdata, Wrong) else told_by(values, initdata)
    looks |= _declaration(told, initdata)
    for key, read in _SINGLE.items():
        if key in values:
            looks[key] = looked(partial(read, values[key]))
    if any(key in values for key in _SERVICES):
        looks["services"] = looked(partial(_services, values))
    return looks


def _declaration(told: Mapping[str, str], initdata: Initdata | Wrong | None) -> dict[str, Look]:
    """Owner, topology, role and clock, each of which rests on those before."""
    keys = () if isinstance(initdata, Wrong) else ("owner",)
    owner = _known(told, keys, initdata, lambda document: read_owner(told, document))
    signed = _known(told, ("mesh", "min_version", "topology"), owner, lambda root: read_topology(told, root))
    role = _known(told, ("role",), signed, lambda topology: _role(told["role"], topology))
    clock = _known(told, (), signed, _clock)
    return {
        "owner": owner if isinstance(owner, Wrong | Unknown) else Fine(f"digest {owner.digest.hex()}"),
        "topology": signed if isinstance(signed, Wrong | Unknown) else Fine(_described(signed)),
        "role": role if isinstance(role, Wrong | Unknown) else Fine(role),
        "clock": clock if isinstance(clock, Wrong | Unknown) else Fine(clock),
    }


def _known(
    told: Mapping[str, str], keys: Sequence[str], rests_on: S | Wrong | Unknown, read: Callable[[S], T]
) -> T | Wrong | Unknown:
    """What `read` makes of `rests_on`, where all of `keys` were told."""
    lacking = [key for key in keys if key not in told]
    if lacking:
        return Unknown(f"not given: {' '.join(lacking)}")
    if isinstance(rests_on, Unknown):
        return rests_on
    if isinstance(rests_on, Wrong):
        return Unknown(f"{rests_on.mismatches[0].field} is refused")
    return _attempt(lambda: read(rests_on))


def _attempt(read: Callable[[], T]) -> T | Wrong:
    try:
        return read()
    except ToposealError as error:
        return Wrong(error.mismatches)


def _role(name: str, signed: SignedTopology) -> str:
    check_role(name, signed)
    return name


def _clock(signed: SignedTopology) -> str:
    check_clock(signed)
    return f"later than issued_at, {signed.topology.issued_at}"


def _described(signed: SignedTopology) -> str:
    return f"{signed.topology.mesh}, version {signed.topology.version}, signed by the owner"


def _collateral(path: str) -> str:
    bundle = read_bundle(path)
    return f"{len(bundle.tdx)} of TDX, {len(bundle.endorsements)} endorsements; judged with evidence"


def _services(values: Mapping[str, str]) -> str:
    read_services(values)
    return "nothing was asked of them"


def _peers(text: str) -> str:
    return f"{len(parse_peers(text))} of them; no name was asked for"


_SINGLE: Mapping[str, Callable[[str], str]] = {"peers": _peers, "collateral": _collateral}
_SERVICES = ("collateral_cache", "pccs", "kds", "service_ca")
