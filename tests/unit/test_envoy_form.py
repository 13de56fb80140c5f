"""A form is filled in by whole strings, and only there."""

from __future__ import annotations

import json
from pathlib import Path

import betterproto2
import envoy_data_plane.envoy.extensions.access_loggers.filters.cel.v3
import envoy_data_plane.envoy.extensions.access_loggers.stream.v3
import envoy_data_plane.envoy.extensions.filters.listener.original_dst.v3
import envoy_data_plane.envoy.extensions.filters.listener.tls_inspector.v3  # noqa: F401 - registers types
import pytest
from envoy_data_plane.envoy.service.discovery.v3 import DiscoveryResponse

from toposeal.dataplane.envoy_form import STAND_IN, filled, strings_of
from toposeal.dataplane.envoy_plan import Peer

FORM = {
    "a": [{"domain": STAND_IN.domain, "n": 1, "b": True, "z": None}],
    STAND_IN.domain: f"in|{STAND_IN.domain}",
}
GOLDEN = Path(__file__).parents[2] / "envoy"


def test_whole_strings_are_replaced_and_neither_keys_nor_parts_of_strings() -> None:
    assert filled(FORM, {STAND_IN.domain: "m"}) == {
        "a": [{"domain": "m", "n": 1, "b": True, "z": None}],
        STAND_IN.domain: f"in|{STAND_IN.domain}",
    }


def test_the_form_stays_as_it_is() -> None:
    before = json.dumps(FORM)
    copy = filled(FORM, {})
    copy["a"][0]["domain"] = "other"
    assert json.dumps(FORM) == before


def test_what_a_member_says_is_not_filled_in_again() -> None:
    sly = Peer(STAND_IN.spiffe, STAND_IN.ca_pem, STAND_IN.domain, ())
    names = [STAND_IN.domain, STAND_IN.spiffe, STAND_IN.ca_pem]
    assert filled(names, strings_of(sly)) == [sly.domain, sly.spiffe, sly.ca_pem]


@pytest.mark.parametrize(
    "path", sorted(GOLDEN.glob("*/[cl]ds.json")), ids=lambda path: str(path.relative_to(GOLDEN))
)
def test_what_is_filled_in_is_what_envoys_messages_say(path: Path) -> None:
    value = json.loads(path.read_bytes())
    said = DiscoveryResponse.from_dict(value).to_dict(casing=betterproto2.Casing.SNAKE)
    assert said == value
