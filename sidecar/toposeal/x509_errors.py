"""What `cryptography` raises over hostile certificates and lists, which it reads lazily: whoever touches a
part of one catches these. No IO.
"""

from __future__ import annotations

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

# x509's own exceptions are no ValueErrors. KeyError: a TLS feature (RFC 7633) that the library does not know.
X509_ERRORS = (
    ValueError,
    TypeError,
    KeyError,
    OverflowError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
