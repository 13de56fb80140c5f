"""What an owner demands of AMD SEV-SNP, as frozen values beside `topology.model`'s for TDX. No IO."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

# Guest policy and platform information by AMD's names. DEBUG and MIGRATE_MA cannot be admitted by anyone.
RELAXATIONS = ("SMT", "CXL_ALLOW")
RESTRICTIONS = (
    "SINGLE_SOCKET",
    "MEM_AES_256_XTS",
    "RAPL_DIS",
    "CIPHERTEXT_HIDING",
    "PAGE_SWAP_DISABLE",
)
PLATFORM_STATES = ("TSME_EN", "ECC_EN", "RAPL_DIS", "CIPHERTEXT_HIDING_EN")
ENDORSEMENTS = ("VCEK", "VLEK")


@dataclass(frozen=True)
class SnpFloors:
    """The lowest firmware of one product: security patch levels, 0 to 255, by component name.

    Turin has fmc, bl, tee, snp and ucode, the others all but fmc; every one is named.
    """

    reported: Mapping[str, int]  # what the report's key stands for
    committed: Mapping[str, int]  # what the host can no longer go back behind
    launch: Mapping[str, int]  # what ran when the guest was started


@dataclass(frozen=True)
class SnpPolicy:
    """Which SNP platforms every role accepts. Nothing is optional; a product without floors is refused."""

    endorsements: frozenset[str]  # never empty; of ENDORSEMENTS
    csp_ids: frozenset[str] | None  # to whom AMD may have lent a VLEK; None is the owner's explicit `any`
    products: Mapping[str, SnpFloors]  # admitted by name: Milan is here only if the owner wrote it
    vmpl: int  # exact: whatever runs at a lower level could have asked for the report
    admit: frozenset[str]  # of RELAXATIONS: what the guest policy may allow the host
    require: frozenset[str]  # of RESTRICTIONS: what the guest policy must demand of the host
    require_platform: frozenset[str]  # of PLATFORM_STATES
    lowered_tcb: bool  # whether the host may have its reports vouched for by less than it has committed
    provisional_firmware: bool  # whether it may run what it has not committed to, and can go back behind
    launch_mitigations: int  # bits that have to be set; report versions before 5 have none
    current_mitigations: int
    crl: bool  # whether AMD's revocation list has to be at hand; one that is, counts in any case


@dataclass(frozen=True)
class SnpReference:
    """One admitted SNP guest. `None` is the owner's explicit `any`; nothing is optional."""

    measurement: bytes  # 48
    host_data: bytes  # 32: the role's config digest (CoCo initdata)
    guest_svn: int  # at least
    family_id: bytes | None  # 16
    image_id: bytes | None  # 16
    id_key_digests: frozenset[bytes] | None  # 48 each
    author_key_digests: frozenset[bytes] | None  # 48 each
