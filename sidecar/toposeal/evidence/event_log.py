"""What any event log says once it is read: events in order, each for one register or for none. No IO.

A log comes from the guest and is believed by nobody before its replay equals the registers of a quote.
Even then the registers vouch for digests: what an event tells about itself is proven only where the
digest is that of the telling (`measured`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from toposeal.errors import EvidenceError, Reason


class LogKind(StrEnum):
    """Whose format a log has; the values name it in JSON."""

    CCEL = "ccel"  # TCG2 crypto-agile, as firmware leaves it in ACPI's CC event log area
    DSTACK = "eventlog"  # dstack's JSON
    AAEL = "aael"  # of Confidential Containers' attestation agent


@dataclass(frozen=True)
class LoggedEvent:
    """One event. `digest` has 48 bytes, and none where nothing is extended."""

    register: int | None  # RTMR, 0 to 3; None: informative, extends nothing
    event_type: int  # TCG's, 32 bits; 0 in a log that knows no types
    digest: bytes
    data: bytes  # what the event tells about itself
    name: str = ""  # dstack's name of it
    measured: bool = False  # the digest is that of what the event tells

    @property
    def type_name(self) -> str:
        """TCG's name of the type, or its number."""
        return EVENT_TYPES.get(self.event_type, f"{self.event_type:#010x}")


@dataclass(frozen=True)
class EventLog:
    """A log as read. `initial` is what the log says RTMR[3] was before its first event, if it says so."""

    kind: LogKind
    events: tuple[LoggedEvent, ...]
    used: int  # bytes, without what fills the area up
    initial: bytes | None = None


def refusal(field: str, found: object, expected: object) -> EvidenceError:
    """The one way in which every reader of logs refuses: EVENT_LOG, `field` inside the log."""
    return EvidenceError.of(Reason.EVENT_LOG, f"event_log.{field}", found, expected)


EV_NO_ACTION = 0x03
EV_EVENT_TAG = 0x06
# TCG PC Client Platform Firmware Profile 1.06, 10.4.1, table 27.
EVENT_TYPES = {
    0x00: "EV_PREBOOT_CERT",
    0x01: "EV_POST_CODE",
    0x02: "EV_UNUSED",
    EV_NO_ACTION: "EV_NO_ACTION",
    0x04: "EV_SEPARATOR",
    0x05: "EV_ACTION",
    EV_EVENT_TAG: "EV_EVENT_TAG",
    0x07: "EV_S_CRTM_CONTENTS",
    0x08: "EV_S_CRTM_VERSION",
    0x09: "EV_CPU_MICROCODE",
    0x0A: "EV_PLATFORM_CONFIG_FLAGS",
    0x0B: "EV_TABLE_OF_DEVICES",
    0x0C: "EV_COMPACT_HASH",
    0x0D: "EV_IPL",
    0x0E: "EV_IPL_PARTITION_DATA",
    0x0F: "EV_NONHOST_CODE",
    0x10: "EV_NONHOST_CONFIG",
    0x11: "EV_NONHOST_INFO",
    0x12: "EV_OMIT_BOOT_DEVICE_EVENTS",
    0x13: "EV_POST_CODE2",
    0x80000000: "EV_EFI_EVENT_BASE",
    0x80000001: "EV_EFI_VARIABLE_DRIVER_CONFIG",
    0x80000002: "EV_EFI_VARIABLE_BOOT",
    0x80000003: "EV_EFI_BOOT_SERVICES_APPLICATION",
    0x80000004: "EV_EFI_BOOT_SERVICES_DRIVER",
    0x80000005: "EV_EFI_RUNTIME_SERVICES_DRIVER",
    0x80000006: "EV_EFI_GPT_EVENT",
    0x80000007: "EV_EFI_ACTION",
    0x80000008: "EV_EFI_PLATFORM_FIRMWARE_BLOB",
    0x80000009: "EV_EFI_HANDOFF_TABLES",
    0x8000000A: "EV_EFI_PLATFORM_FIRMWARE_BLOB2",
    0x8000000B: "EV_EFI_HANDOFF_TABLES2",
    0x8000000C: "EV_EFI_VARIABLE_BOOT2",
    0x8000000D: "EV_EFI_GPT_EVENT2",
    0x80000010: "EV_EFI_HCRTM_EVENT",
    0x800000E0: "EV_EFI_VARIABLE_AUTHORITY",
    0x800000E1: "EV_EFI_SPDM_FIRMWARE_BLOB",
    0x800000E2: "EV_EFI_SPDM_FIRMWARE_CONFIG",
    0x800000E3: "EV_EFI_SPDM_DEVICE_POLICY",
    0x800000E4: "EV_EFI_SPDM_DEVICE_AUTHORITY",
}
