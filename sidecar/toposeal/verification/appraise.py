"""The whole verdict over one piece of evidence: parse, authentic, acceptable, says what it should. No IO.

Together with the module of each kind this is the only place that makes a VerifiedEvidence.
"""

from __future__ import annotations

from toposeal._wire.evidence_pb2 import SEV_SNP, TDX, Evidence
from toposeal.errors import EvidenceError, PolicyError, Reason
from toposeal.evidence.auxiliary import read_gpus
from toposeal.evidence.binding import Binding, Purpose, gpu_binding
from toposeal.topology.model import Topology
from toposeal.verification.appraise_gpu import appraise_gpus, with_gpus
from toposeal.verification.appraise_snp import appraise_snp
from toposeal.verification.appraise_tdx import appraise_tdx
from toposeal.verification.model import AppraisalContext, VerifiedEvidence

_APPRAISED = frozenset({Purpose.JOIN, Purpose.SEAL, Purpose.LIVE})


def appraise(
    evidence: Evidence, expected: Binding, topology: Topology, context: AppraisalContext
) -> VerifiedEvidence:
    """Verify that `evidence` says exactly `expected`, by genuine hardware that `topology` accepts.

    `expected` is built from what the verifier itself knows, never from the evidence. Cheap steps come
    first, since strangers can make us run them. Raises EvidenceError or PolicyError with the reason.
    """
    # Only what a quote can mean: KEYREL has no meaning yet, and GPUBIND is a GPU's.
    if expected.purpose not in _APPRAISED:
        raise EvidenceError.of(Reason.EVIDENCE_KIND, "purpose", expected.purpose.name, "JOIN, SEAL or LIVE")
    verified = _appraise_tee(evidence, expected, topology, context)
    # The TEE has vouched for the identity; its GPUs answer with a nonce made of that identity, once a boot.
    gpus = read_gpus(evidence.gpus, "evidence.gpus")
    if expected.purpose is not Purpose.JOIN:
        if gpus:
            raise EvidenceError.of(
                Reason.EVIDENCE_KIND, "evidence.gpus", f"{len(gpus)} devices", "none but with JOIN"
            )
        return verified
    bound = gpu_binding(expected.mesh_id, expected.role, expected.iid, expected.anchor)
    return with_gpus(verified, appraise_gpus(gpus, bound, topology.roles[verified.role], context))


def _appraise_tee(
    evidence: Evidence, expected: Binding, topology: Topology, context: AppraisalContext
) -> VerifiedEvidence:
    """The kind of evidence is the owner's choice, not the sender's."""
    if evidence.tee == TDX:
        if topology.tdx is None:
            raise _not_admitted("TDX")
        return appraise_tdx(evidence, expected, topology, topology.tdx, context)
    if evidence.tee == SEV_SNP:
        if topology.snp is None:
            raise _not_admitted("SEV_SNP")
        return appraise_snp(evidence, expected, topology, topology.snp, context)
    raise EvidenceError.of(Reason.EVIDENCE_KIND, "evidence.tee", evidence.tee, "TDX or SEV_SNP")


def _not_admitted(kind: str) -> PolicyError:
    return PolicyError.of(Reason.EVIDENCE_KIND, "evidence.tee", kind, "a kind that the topology admits")
