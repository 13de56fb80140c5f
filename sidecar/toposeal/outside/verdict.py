"""One decision of `toposeal verify`, and its two renderings: text for people, JSON for programs. No IO."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from toposeal.errors import ToposealError
from toposeal.outside.model import VerifiedMember, VerifiedMesh

_HEADER = ("ROLE", "MEMBER", "PROVEN", "TEE", "TCB", "PLATFORM", "GPUS", "ADDRESS")
_PLATFORM_SHOWN = 16  # bytes


@dataclass(frozen=True)
class Verdict:
    """Either a verified mesh or the refusal; both renderings say what this says (C5)."""

    outcome: VerifiedMesh | ToposealError
    notes: Sequence[str] = ()  # for people; none of them weakens the verdict (C4)

    def as_json(self) -> dict[str, object]:
        """The object that `verify --json` prints; digests are lower-case hex."""
        if isinstance(self.outcome, ToposealError):
            return refused_json(self.outcome)
        mesh = self.outcome
        return {
            "verified": True,
            "reasons": [],
            "mesh": mesh.mesh,
            "owner_root": mesh.owner_root.hex(),
            "topology_version": mesh.topology_version,
            "lineage": mesh.lineage.hex(),
            "epoch": mesh.epoch,
            "manifest_digest": mesh.manifest_digest.hex(),
            "members": [member_json(member) for member in mesh.members],
            "proven": [member.iid.hex() for member in mesh.proven],
        }

    def as_text(self) -> str:
        """The verdict first, then who runs what; every character is printable ASCII (C2)."""
        if isinstance(self.outcome, ToposealError):
            lines = ["NOT VERIFIED", *(f"  {mismatch}" for mismatch in self.outcome.mismatches)]
        else:
            lines = [*_mesh_lines(self.outcome)]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


def proven_line(mesh: VerifiedMesh) -> str:
    """Who answered now, and how many more there are."""
    now, count = mesh.proven_now, len(mesh.proven)
    proven = f"1 member ({now.role} {_label(now)})" if count == 1 else f"{count} members"
    return f"proven now: {proven}; committed to this manifest: {len(mesh.members)}"


def curl_hint(mesh: VerifiedMesh, host: str, pins: str) -> str | None:
    """A curl command that uses the pins in file `pins`, for a member with an ingress port, if any.

    `host` is where the document came from; only the member that answered is known to be behind it.
    """
    member = next((m for m in (mesh.proven_now, *mesh.members) if m.ingress), None)
    if member is None:
        return None
    port = member.ingress[0]
    where = host if member == mesh.proven_now else "HOST"
    return f"curl --cacert {pins} --connect-to ::{where}:{port} https://{member.domain}:{port}/"


def refused_json(error: ToposealError) -> dict[str, object]:
    """Every mismatch, and each reason once."""
    mismatches = [
        {"reason": m.reason.value, "field": m.field, "found": m.found, "expected": m.expected}
        for m in error.mismatches
    ]
    reasons = list(dict.fromkeys(m.reason.value for m in error.mismatches))
    return {"verified": False, "reasons": reasons, "mismatches": mismatches}


def member_json(member: VerifiedMember) -> dict[str, object]:
    """What a program wants to know of one member."""
    return {
        "iid": member.iid.hex(),
        "role": member.role,
        "tee": member.tee,
        "tcb_status": member.tcb_status,
        "ca_spki_sha384": member.ca_spki_sha384.hex(),
        "advisories": list(member.advisories),
        "platform": member.platform.hex(),
        "gpus": [{"model": gpu.model, "device_id": gpu.device_id.hex()} for gpu in member.gpus],
    }


def _mesh_lines(mesh: VerifiedMesh) -> Iterator[str]:
    yield f"VERIFIED {mesh.mesh}: topology version {mesh.topology_version}, epoch {mesh.epoch}"
    yield proven_line(mesh)
    yield ""
    proven_now = {member.iid for member in mesh.proven}
    yield from _table(_HEADER, [_row(member, member.iid in proven_now) for member in mesh.members])
    yield ""
    yield f"owner root  {mesh.owner_root.hex()}"
    yield f"lineage     {mesh.lineage.hex()}"
    yield f"manifest    {mesh.manifest_digest.hex()}"
    yield f"collateral  in force until {datetime.fromtimestamp(mesh.expires_at, UTC):%Y-%m-%d %H:%M} UTC"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Left-aligned columns; those that say nothing in any row are left out."""
    columns = [index for index in range(len(header)) if any(row[index] for row in rows)]
    widths = [max(len(row[index]) for row in (header, *rows)) for index in columns]
    for row in (header, *rows):
        cells = (row[index].ljust(width) for index, width in zip(columns, widths, strict=True))
        yield "  ".join(cells).rstrip()


def _row(member: VerifiedMember, proven: bool) -> tuple[str, ...]:
    return (
        member.role,
        _label(member),
        "active now" if proven else "committed",
        member.tee,
        " ".join((member.tcb_status, *member.advisories)),
        _platform(member.platform),
        ", ".join(f"{count} {model}" for model, count in Counter(g.model for g in member.gpus).items()),
        ", ".join(member.addresses),
    )


def _platform(platform: bytes) -> str:
    """All of a PPID; of a CHIP_ID as much: no two chips share 128 bits, and a line should fit a screen."""
    shown = platform[:_PLATFORM_SHOWN].hex()
    return f"{shown}.." if len(platform) > _PLATFORM_SHOWN else shown or "not shown"


def _label(member: VerifiedMember) -> str:
    return member.domain.partition(".")[0]
