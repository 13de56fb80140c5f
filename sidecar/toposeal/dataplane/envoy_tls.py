"""The only transport sockets there are, all TLS, each complete. No IO.

Three traps of Envoy's language fail open in silence: a validation context without trust admits any
certificate, a cluster without a fallback socket speaks plaintext, and a store of several members' CAs
lets each mint the others' names. No function here can express any of them: trust is exactly one `Peer`,
one host outside by the CAs that the owner signed for it, or nobody. docs/adr/0011 says why these validators.
"""

from __future__ import annotations

from collections.abc import Sequence

import betterproto2
from envoy_data_plane.envoy.config.core.v3 import (
    ConfigSource,
    DataSource,
    TransportSocket,
    TypedExtensionConfig,
)
from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import (
    CertificateValidationContext,
    CommonTlsContext,
    DownstreamTlsContext,
    SdsSecretConfig,
    SpiffeCertValidatorConfig,
    SubjectAltNameMatcher,
    SubjectAltNameMatcherSanType,
    TlsParameters,
    TlsParametersTlsProtocol,
    UpstreamTlsContext,
)
from envoy_data_plane.envoy.type.matcher.v3 import StringMatcher
from envoy_data_plane.google.protobuf import Any

from toposeal.dataplane.envoy_json import discovered
from toposeal.dataplane.envoy_plan import Peer
from toposeal.dataplane.envoy_secrets import INGRESS_SECRET, MESH_SECRET

ATTESTATION_ALPN = "toposeal-attest/1"
# In our order: whoever speaks both gets what every application of HTTP understands; gRPC offers h2 alone.
HTTP_ALPN = ("http/1.1", "h2")
_LEAF_AND_CA = 1  # BoringSSL skips the path length of a self-issued trust anchor (K4)


def accepts(client: Peer) -> TransportSocket:
    """Server side of an edge: the client must prove to be exactly `client`."""
    return _downstream(_common(_trusting(client)), require_client=True)


def expects(server: Peer, own: Peer) -> TransportSocket:
    """Client side of an edge: says who calls, and the server must prove to be exactly `server`."""
    return _upstream(_common(_trusting(server)), own)


def expects_nobody(own: Peer) -> TransportSocket:
    """What a cluster falls back to: TLS that trusts no certificate at all, and shows none."""
    return _upstream(CommonTlsContext(tls_params=_tls13(), validation_context=_trusting_nobody()), own)


def expects_host(host: str, authorities: str) -> TransportSocket:
    """Client side towards a host outside: its certificate must be for `host` and by one of `authorities`
    (PEM). It is shown none of ours.
    """
    matcher = StringMatcher(exact=host)
    trust = CertificateValidationContext(
        trusted_ca=DataSource(inline_string=authorities),
        match_typed_subject_alt_names=[
            SubjectAltNameMatcher(san_type=SubjectAltNameMatcherSanType.DNS, matcher=matcher)
        ],
    )
    params = TlsParameters(
        tls_minimum_protocol_version=TlsParametersTlsProtocol.TLSv1_2,
        tls_maximum_protocol_version=TlsParametersTlsProtocol.TLSv1_3,
    )
    common = CommonTlsContext(tls_params=params, validation_context=trust)
    return _tls_socket(UpstreamTlsContext(common_tls_context=common, sni=host, max_session_keys=0))


def serves_anyone(alpn: Sequence[str] = ()) -> TransportSocket:
    """For clients without a certificate, who know this pod by its ingress leaf."""
    common = CommonTlsContext(
        tls_params=_tls13(),
        tls_certificate_sds_secret_configs=[_secret(INGRESS_SECRET)],
        alpn_protocols=list(alpn),
    )
    return _downstream(common, require_client=False)


def _trusting(peer: Peer) -> CertificateValidationContext:
    """One member: a leaf that its CA signed itself, for this side's use, with its exact URI."""
    matcher = StringMatcher(exact=peer.spiffe)
    return CertificateValidationContext(
        trusted_ca=DataSource(inline_string=peer.ca_pem),
        match_typed_subject_alt_names=[
            SubjectAltNameMatcher(san_type=SubjectAltNameMatcherSanType.URI, matcher=matcher)
        ],
        suppress_client_ca_list=True,
        max_verify_depth=_LEAF_AND_CA,
    )


def _trusting_nobody() -> CertificateValidationContext:
    """The one way to say it: a SPIFFE validator without a trust domain. An empty context trusts all."""
    validator = TypedExtensionConfig(
        name="envoy.tls.cert_validator.spiffe", typed_config=Any.pack(SpiffeCertValidatorConfig())
    )
    return CertificateValidationContext(custom_validator_config=validator, suppress_client_ca_list=True)


def _common(trust: CertificateValidationContext) -> CommonTlsContext:
    """With the mesh leaf, whose rotation cuts nothing since it is a resource of its own."""
    return CommonTlsContext(
        tls_params=_tls13(),
        tls_certificate_sds_secret_configs=[_secret(MESH_SECRET)],
        validation_context=trust,
    )


def _tls13() -> TlsParameters:
    """TLS 1.3 alone, signed with P-256; Envoy's default key exchange includes X25519MLKEM768."""
    return TlsParameters(
        tls_minimum_protocol_version=TlsParametersTlsProtocol.TLSv1_3,
        tls_maximum_protocol_version=TlsParametersTlsProtocol.TLSv1_3,
        signature_algorithms=["ecdsa_secp256r1_sha256"],
    )


def _downstream(common: CommonTlsContext, *, require_client: bool) -> TransportSocket:
    """Without tickets or session identifiers: an admission ends where its handshake would fail (D2)."""
    return _tls_socket(
        DownstreamTlsContext(
            common_tls_context=common,
            require_client_certificate=require_client,
            disable_stateless_session_resumption=True,
            disable_stateful_session_resumption=True,
        )
    )


def _upstream(common: CommonTlsContext, own: Peer) -> TransportSocket:
    """The SNI says who calls: it chooses the chain that trusts the caller. No session is kept (D2)."""
    return _tls_socket(UpstreamTlsContext(common_tls_context=common, sni=own.domain, max_session_keys=0))


def _secret(name: str) -> SdsSecretConfig:
    return SdsSecretConfig(name=name, sds_config=ConfigSource.from_dict(discovered()))


def _tls_socket(context: betterproto2.Message) -> TransportSocket:
    return TransportSocket(name="envoy.transport_sockets.tls", typed_config=Any.pack(context))
