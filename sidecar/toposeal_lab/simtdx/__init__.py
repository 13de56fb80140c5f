"""A simulated TDX platform: values in, bytes out. Structurally genuine, trusted by the lab alone.

Nothing here reads or writes a file, and nothing in the production package imports it.
"""

from toposeal_lab.simtdx.collateral import CollateralSpec
from toposeal_lab.simtdx.measurements import TdxMeasurements, lab_measurements
from toposeal_lab.simtdx.pki import Authority, LabPki
from toposeal_lab.simtdx.quote import LabHost, QuoteShape

__all__ = [
    "Authority",
    "CollateralSpec",
    "LabHost",
    "LabPki",
    "QuoteShape",
    "TdxMeasurements",
    "lab_measurements",
]
