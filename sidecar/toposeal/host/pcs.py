"""Intel's PCS or the owner's PCCS: what judging quotes of one platform family needs, as one entry."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from toposeal.errors import NetworkError
from toposeal.evidence.pcs_answers import Answer, collateral_entry, evaluation_number
from toposeal.host import vendor_http
from toposeal.host.vendor_http import Service

INTEL_PCS = "https://api.trustedservices.intel.com"
INTEL_LISTS = "https://certificates.trustedservices.intel.com"
_ROOT_LIST = "/IntelSGXRootCA.der"
_API_PATHS = ("/sgx/certification/v4", "/tdx/certification/v4")  # as other software's settings name a PCCS
_SGX, _TDX = _API_PATHS


class Update(StrEnum):
    """When a TCB recovery shows: on the day it is disclosed, or about six weeks later.

    STANDARD is the default of Intel and of a PCCS: members and verifiers then hold the same generation.
    What must not be accepted any longer is the owner's to say, as `min_tcb_evaluation` of the topology.
    """

    STANDARD = "standard"
    EARLY = "early"


@dataclass(frozen=True)
class Pcs:
    """A service of Intel's API, version 4; `lists` has the root's revocation list, None for a PCCS."""

    api: Service
    lists: Service | None
    update: Update = Update.STANDARD

    @classmethod
    def intel(cls, update: Update = Update.STANDARD) -> Pcs:
        return cls(Service.parse(INTEL_PCS), Service.parse(INTEL_LISTS), update)

    @classmethod
    def pccs(cls, url: str, ca_file: str | None = None, update: Update = Update.STANDARD) -> Pcs:
        """`url` with or without its API path; `ca_file` are its own roots in PEM. Raises UsageError."""
        trimmed = url.rstrip("/")
        for path in _API_PATHS:
            trimmed = trimmed.removesuffix(path)
        return cls(Service.parse(trimmed, ca_file), None, update)

    def collateral(self, fmspc: bytes) -> bytes:
        """The JSON entry for one FMSPC (6 bytes). Blocks.

        Raises NetworkError, or EvidenceError for answers of another form; nothing of it is verified yet.
        TDX platforms are certified by the Platform CA alone.
        """
        tcb = self._get(f"{_TDX}/tcb?fmspc={fmspc.hex().upper()}", self._chosen("&"))
        return collateral_entry(
            tcb,
            self._identity(evaluation_number(tcb.body, "tcbInfo")),
            self._get(f"{_SGX}/pckcrl?ca=platform&encoding=der"),
            self._root_list(),
        )

    def _identity(self, evaluation: int) -> Answer:
        """The quoting enclave's identity of the same TCB recovery as the TCB info.

        Intel moves platforms on at different times: where the newest identity is of another number, the one
        of this number is asked for by it, which a PCCS may not know.
        """
        path = f"{_TDX}/qe/identity"
        newest = self._get(path, self._chosen("?"))
        if evaluation_number(newest.body, "enclaveIdentity") == evaluation:
            return newest
        try:
            return self._get(f"{path}?tcbEvaluationDataNumber={evaluation}")
        except NetworkError as error:
            if vendor_http.absent(error):
                return newest  # refused where the numbers are compared, with a reason that says so
            raise

    def _root_list(self) -> Answer:
        if self.lists is None:
            return self._get(f"{_SGX}/rootcacrl")
        return vendor_http.get(self.lists, _ROOT_LIST)

    def _chosen(self, separator: str) -> str:
        """Left out where it is the default: old PCCSs do not know the parameter."""
        return "" if self.update is Update.STANDARD else f"{separator}update={self.update}"

    def _get(self, path: str, query: str = "") -> Answer:
        return vendor_http.get(self.api, path + query)
