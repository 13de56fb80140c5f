"""Do two members share one confidential VM, or one GPU? Refused wherever evidence can tell. No IO.

Evidence names the VM and not the pod. SNP firmware draws REPORT_ID for each guest at its launch (AMD
56860, GCTX.ReportID), so two pods of one guest carry the same one. TDX has nothing like it: there RTMR[3]
tells, which the second sidecar of one TD extends again, so that no instance event stands there once.
"""

from __future__ import annotations

from collections.abc import Iterable

from toposeal.errors import PolicyError, Reason


def refuse_shared_guests(members: Iterable[tuple[str, bytes | None]]) -> None:
    """Refuse if two of `members`, each a name and the guest's identity, are in the same guest.

    None is a kind of evidence that has no such identity (TDX). Raises PolicyError(SHARED_CVM), naming both.
    """
    seen: dict[bytes, str] = {}
    for name, guest in members:
        if guest is None:
            continue
        other = seen.setdefault(guest, name)
        if other != name:
            found = f"REPORT_ID {guest.hex()}, as {other}"
            raise PolicyError.of(Reason.SHARED_CVM, f"members.{name}", found, "a confidential VM of its own")


def refuse_shared_gpus(members: Iterable[tuple[str, bytes]]) -> None:
    """Refuse if two of `members`, each a name and one of its device_ids, have the same GPU.

    A device answers whoever reaches it: one that vouches for two members is not wholly either's. Raises
    PolicyError(GPU_DUPLICATE), naming both.
    """
    seen: dict[bytes, str] = {}
    for name, device in members:
        other = seen.setdefault(device, name)
        if other != name:
            found = f"GPU {device.hex()}, as {other}"
            raise PolicyError.of(Reason.GPU_DUPLICATE, f"members.{name}.gpus", found, "a GPU of its own")
