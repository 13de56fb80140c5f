"""One message rendered for a member that stands in for all, then copied with other strings. No IO.

Envoy's message types cost milliseconds for each message, and a mesh has one for each of a thousand members:
they make the form, whose copies differ in nothing but strings that the form names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import betterproto2

from toposeal.dataplane.envoy_json import Json
from toposeal.dataplane.envoy_plan import Peer

# Names that no member can have: none is a domain, a certificate or an address.
STAND_IN = Peer("{domain}", "{spiffe}", "{ca_pem}", ("{address}",))


def as_json(message: betterproto2.Message) -> Json:
    """With the field names of Envoy's schema."""
    return message.to_dict(casing=betterproto2.Casing.SNAKE)


def strings_of(peer: Peer) -> dict[str, str]:
    """What a copy for `peer` has in the place of the stand-in's names; its addresses are the caller's."""
    return {STAND_IN.domain: peer.domain, STAND_IN.spiffe: peer.spiffe, STAND_IN.ca_pem: peer.ca_pem}


def filled(form: Any, strings: Mapping[str, str]) -> Any:
    """A copy of `form`, which is JSON: a string that is a key of `strings` is its value there."""
    if isinstance(form, str):
        return strings.get(form, form)
    if isinstance(form, dict):
        return {name: filled(value, strings) for name, value in form.items()}
    if isinstance(form, list):
        return [filled(value, strings) for value in form]
    return form
