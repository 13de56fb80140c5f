"""The measured file that says what arguments would say; form only, meaning is `daemon.config`."""

from __future__ import annotations

import tomllib

from toposeal.errors import Reason, UsageError, printable
from toposeal.host.files import read_once

REQUIRED = ("role", "mesh", "owner", "topology", "min_version", "peers", "state_dir", "collateral")
OPTIONAL = ("event_log", "collateral_cache", "pccs", "kds", "service_ca", "quote_source")
KEYS = (*REQUIRED, *OPTIONAL)
MEASURED = ("role", "mesh", "owner", "min_version")  # what a pod's initdata says instead
_MAX_CONFIG_SIZE = 64 << 10


def read_config_file(path: str) -> dict[str, str]:
    """The measured alternative to arguments: TOML with exactly KEYS, all strings but `min_version`."""
    try:
        table = tomllib.loads(read_once(path, _MAX_CONFIG_SIZE).decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError.of(Reason.MALFORMED, printable(path), printable(error), "TOML") from error
    unknown = sorted(set(table) - set(KEYS))
    if unknown:
        raise UsageError.of(Reason.USAGE, printable(path), unknown[0], f"only {', '.join(KEYS)}")
    wrong = [k for k, v in table.items() if type(v) is not (int if k == "min_version" else str)]
    if wrong:
        raise UsageError.of(Reason.USAGE, f"{printable(path)}: {wrong[0]}", "another type", "a string")
    return {key: str(value) for key, value in table.items()}
