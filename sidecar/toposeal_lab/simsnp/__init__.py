"""A simulated SNP platform: values in, bytes out. Structurally genuine, trusted by the lab alone.

Nothing here reads or writes a file, and nothing in the production package imports it.
"""

from toposeal_lab.simsnp.chip import LabChip, ReportShape, SimulatedChip
from toposeal_lab.simsnp.host_table import HostTable, host_table
from toposeal_lab.simsnp.measurements import SnpMeasurements, lab_snp_measurements
from toposeal_lab.simsnp.pki import LabAmd, LeafShape, RsaKeys
from toposeal_lab.simsnp.table import certificate_table

__all__ = [
    "HostTable",
    "LabAmd",
    "LabChip",
    "LeafShape",
    "ReportShape",
    "RsaKeys",
    "SimulatedChip",
    "SnpMeasurements",
    "certificate_table",
    "host_table",
    "lab_snp_measurements",
]
