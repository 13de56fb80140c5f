"""How the daemon starts its children: through util-linux setpriv, with less than it has itself (F5)."""

from __future__ import annotations

from collections.abc import Sequence

from toposeal.host.privileges import find_setpriv


def confined(argv: Sequence[str], *, uid: int | None, capabilities: Sequence[str] = ()) -> list[str]:
    """The command that runs `argv` as `uid` (None: unchanged) with `capabilities` alone, and that the
    kernel kills when the thread that started it ends. Raises PodError without setpriv.
    """
    kept = "".join(f",+{name}" for name in capabilities)
    user = [] if uid is None else [f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
    return [
        find_setpriv(),
        *user,
        f"--inh-caps=-all{kept}",
        f"--ambient-caps=-all{kept}",
        "--no-new-privs",
        "--pdeathsig=KILL",
        "--",
        *argv,
    ]
