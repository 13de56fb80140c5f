"""What Envoy's words about a refused connection become; a stranger may have chosen some of them."""

from __future__ import annotations

import json

import hypothesis
import pytest
from hypothesis import strategies as st

from toposeal.dataplane.refusals import FIELDS, Kind, Refusal, parse_refusal

_VERIFY = "TLS_error:|268435581:SSL_routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:verify_cert_failed:_"
_CERT = _VERIFY + "X509_verify_cert:_certificate_verification_error_at_depth_0:_"
NO_CHAIN = (
    "TLS_error:|268435648:SSL_routines:OPENSSL_internal:PEER_DID_NOT_RETURN_A_CERTIFICATE:"
    "peer_did_not_provide_required_client_certificate:TLS_error_end"
)


def line(**said: object) -> bytes:
    return json.dumps({**dict.fromkeys(FIELDS), "flags": "-", **said}).encode()


@pytest.mark.parametrize(
    ("said", "kind", "detail"),
    [
        (
            {"downstream": NO_CHAIN},
            Kind.NO_CERTIFICATE,
            "PEER DID NOT RETURN A CERTIFICATE:peer did not provide required client certificate",
        ),
        (
            {"downstream": f"{_CERT}unable_to_get_local_issuer_certificate:TLS_error_end"},
            Kind.UNTRUSTED,
            "CERTIFICATE VERIFY FAILED:verify cert failed: X509 verify cert: certificate verification error "
            "at depth 0: unable to get local issuer certificate",
        ),
        ({"downstream": f"{_CERT}certificate_has_expired:TLS_error_end"}, Kind.EXPIRED, None),
        ({"downstream": f"{_CERT}certificate_is_not_yet_valid:TLS_error_end"}, Kind.EXPIRED, None),
        ({"upstream": f"{_VERIFY}verify_SAN_list:TLS_error_end", "flags": "UF"}, Kind.WRONG_NAME, None),
        ({"upstream": f"{_CERT}self-signed_certificate:TLS_error_end", "flags": "UF"}, Kind.UNTRUSTED, None),
        (
            {
                "downstream": "TLS_error|error:1000009c:SSL_routines:OPENSSL_internal:HTTP_REQUEST"
                ":TLS_error_end"
            },
            Kind.TLS,
            "HTTP REQUEST",
        ),
        (
            {"downstream": f"{_VERIFY}SAN_matcher,_certificate_SANs_are_[x://certificate_has_expired]"},
            Kind.WRONG_NAME,
            None,
        ),
        ({"flags": "NR"}, Kind.NO_ROUTE, "NR"),
        (
            {"flags": "UF,URX", "upstream": "delayed_connect_error:_Connection_refused"},
            Kind.UNREACHABLE,
            None,
        ),
        ({"flags": "UH"}, Kind.UNREACHABLE, "UH"),
        (
            {"timeout": "transport socket timeout was reached"},
            Kind.TIMEOUT,
            "transport socket timeout was reached",
        ),
        ({"flags": "UO"}, Kind.TOO_MANY, "UO"),
        ({"flags": "DC"}, Kind.OTHER, "DC"),
    ],
)
def test_the_kind_says_why(said: dict[str, object], kind: Kind, detail: str | None) -> None:
    found = parse_refusal(line(**said))
    assert found is not None
    assert found.kind is kind
    assert detail is None or found.detail == detail


def test_who_asked_for_what_is_kept() -> None:
    found = parse_refusal(
        line(
            flags="NR",
            chain="in|8080|m-1.shop",
            sni="m-1.shop",
            source="10.0.0.9:4",
            destination="10.0.0.1:8080",
            upstream_host="10.0.0.2:80",
        )
    )
    assert found == Refusal(
        kind=Kind.NO_ROUTE,
        detail="NR",
        chain="in|8080|m-1.shop",
        sni="m-1.shop",
        source="10.0.0.9:4",
        destination="10.0.0.1:8080",
        upstream="10.0.0.2:80",
    )


@pytest.mark.parametrize("field", ["sni", "downstream", "chain", "source", "destination", "upstream_host"])
def test_F4_no_byte_of_a_stranger_reaches_a_terminal_as_it_is(field: str) -> None:
    found = parse_refusal(line(**{field: 'x\x1b[31m\n"\u202eevil' + "y" * 10_000}))
    assert found is not None
    text = "".join((found.detail, found.chain, found.sni, found.source, found.destination, found.upstream))
    assert text.isascii()
    assert text.isprintable()
    assert len(text) < 1_000


@pytest.mark.parametrize(
    "text",
    [b"", b"{}", b"[]", b"{", b"\xff", b"[" * 100_000, line()[:-1] + b', "more": 1}', b"null"],
    ids=["empty", "object", "list", "half", "no UTF-8", "deep", "another field", "null"],
)
def test_what_is_no_line_of_the_log_is_nothing(text: bytes) -> None:
    assert parse_refusal(text) is None


@hypothesis.given(
    st.one_of(
        st.binary(max_size=200),
        st.fixed_dictionaries({name: st.one_of(st.none(), st.integers(), st.text()) for name in FIELDS}).map(
            lambda value: json.dumps(value).encode()
        ),
    )
)
def test_any_line_is_taken_or_left(text: bytes) -> None:
    found = parse_refusal(text)
    assert found is None or (found.sni.isascii() and found.detail.isascii())
