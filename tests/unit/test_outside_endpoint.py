"""outside.endpoint: what `toposeal verify` may be pointed at."""

from __future__ import annotations

import pytest

from toposeal.errors import Reason, UsageError
from toposeal.outside.endpoint import ATTESTATION_PATH, Endpoint, attestation_target


@pytest.mark.parametrize(
    ("url", "host", "port", "authority"),
    [
        ("https://shop.example", "shop.example", 443, "shop.example:443"),
        ("https://shop.example:8443/", "shop.example", 8443, "shop.example:8443"),
        (f"https://10.0.0.1:8443{ATTESTATION_PATH}", "10.0.0.1", 8443, "10.0.0.1:8443"),
        ("HTTPS://[fd00::1]:8443", "fd00::1", 8443, "[fd00::1]:8443"),
    ],
)
def test_urls_that_name_a_host_are_read(url: str, host: str, port: int, authority: str) -> None:
    endpoint = Endpoint.parse(url)
    assert (endpoint.host, endpoint.port, endpoint.dial) == (host, port, (host, port))
    assert endpoint.authority == authority


@pytest.mark.parametrize(
    "url",
    [
        "http://shop.example",
        "shop.example:8443",
        "https://",
        "https://:8443",
        "https://shop.example:0",
        "https://shop.example:65536",
        "https://shop.example:x",
        "https://[fd00::1",
        "https://shop.example/other",
        "https://shop.example/?nonce=00",
        "https://shop.example/?",
        "https://shop.example/#x",
        "https://user@shop.example",
        "https://@shop.example",
        "https://shop.example\n.evil",
        "https://shop example",
        "https://-shop",
        "https://shop..example",
        "https://sh\u00f6p.example",
        "https://" + "a" * 64,
        "https://" + "a." * 130 + "a",
        "",
    ],
)
def test_V9_any_other_url_is_a_usage_error(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        Endpoint.parse(url)
    assert caught.value.reason is Reason.USAGE


@pytest.mark.parametrize(
    ("connect", "dial"),
    [("10.0.0.1:1", ("10.0.0.1", 1)), ("[fd00::1]:65535", ("fd00::1", 65535)), ("pod:8443", ("pod", 8443))],
)
def test_connect_replaces_the_address_alone(connect: str, dial: tuple[str, int]) -> None:
    endpoint = Endpoint.parse("https://shop.example", connect)
    assert (endpoint.authority, endpoint.dial) == ("shop.example:443", dial)


@pytest.mark.parametrize(
    "connect", ["", "pod", "pod:", ":1", "fd00::1:1", "[fd00::1]", "[]:1", "pod:0", "pod:65536", "pod:\u0661"]
)
def test_a_connect_that_is_not_host_and_port_is_a_usage_error(connect: str) -> None:
    with pytest.raises(UsageError):
        Endpoint.parse("https://shop.example", connect)


def test_the_target_carries_the_nonce_in_lower_case_hex() -> None:
    assert attestation_target(bytes([0xAB] * 32)) == f"{ATTESTATION_PATH}?nonce={'ab' * 32}"


@pytest.mark.parametrize(
    ("connect", "expected"), [("10.0.0.1:1", "10.0.0.1"), ("[fd00::1]:1", "[fd00::1]"), (None, "shop")]
)
def test_the_host_to_connect_to_is_spelled_as_curl_wants_it(connect: str | None, expected: str) -> None:
    assert Endpoint.parse("https://shop", connect).dial_host == expected


def test_a_target_is_a_host_and_a_port_and_names_its_document() -> None:
    endpoint = Endpoint.parse_target("[fd00::1]:443")
    assert (endpoint.host, endpoint.port, endpoint.dial) == ("fd00::1", 443, ("fd00::1", 443))
    assert endpoint.url == "https://[fd00::1]:443"
    assert Endpoint.parse(endpoint.url) == endpoint


@pytest.mark.parametrize("target", ["web", "https://web:443", "web:443/", "", "user@web:443"])
def test_a_target_that_is_not_host_and_port_is_a_usage_error(target: str) -> None:
    with pytest.raises(UsageError):
        Endpoint.parse_target(target)
