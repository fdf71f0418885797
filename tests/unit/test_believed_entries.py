"""Which entry of the directory an authoritative issuer names, and what of it is no clear word."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from traitlets.config import Config

from daas_hub.auth.multi import DaasAuthenticator
from daas_hub.core.directory import same_value, value_filter
from daas_hub.core.errors import ConfigError
from daas_hub.core.oidc_claims import entry_of

GUID = "00112233-4455-6677-8899-aabbccddeeff"


@pytest.mark.parametrize(
    ("value", "entry"), [("E-1", "E-1"), (["E-1"], "E-1"), (" E-1", ""), (["a", "b"], ""), (7, "")]
)
def test_one_clear_text_counts(value: Any, entry: str) -> None:
    assert entry_of(value) == entry


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner)))
def test_anything_else_names_nobody(value: Any) -> None:
    entry = entry_of(value)
    assert not entry or entry == (value[0] if isinstance(value, list) else value)


def test_lasting_ids_are_compared_as_such_and_all_else_exactly() -> None:
    assert r"(objectGUID=\33\22" in value_filter("objectGUID", GUID.upper())
    assert same_value({"objectguid": [GUID]}, "objectGUID", GUID.upper())
    assert value_filter("employeeNumber", "E*)") == r"(employeeNumber=E\2a\29)"
    assert same_value({"employeenumber": ["E-2", "E-1"]}, "employeeNumber", "E-1")
    assert not same_value({"employeenumber": ["E-1"]}, "employeeNumber", "e-1")
    assert not same_value({}, "entryUUID", GUID)


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"directory": "elsewhere"}, "names the directory 'elsewhere'; this hub has site"),
        ({"attribute": "eduPersonPrincipalName"}, "a name that people sign in with"),
        *(({"claim": claim}, "believed of nobody") for claim in ("email", "Mail", "login", "username", "eppn")),
        *(({"attribute": name}, "believed of nobody") for name in ("mail", "telephoneNumber", "gidNumber")),
    ],
)
def test_a_rule_that_proves_nothing_stops_the_start(more: dict[str, str], text: str) -> None:
    rule = {"claim": "person", "directory": "site", "attribute": "employeeNumber"}
    directory = {
        "server_uris": ["ldaps://ldap.site"],
        "user_search_base": "dc=site",
        "login_attributes": ["eduPersonPrincipalName"],
    }

    def made(link_by: dict[str, str]) -> DaasAuthenticator:
        provider = {"issuer": "https://idp.site", "client_id": "daas", "link_by": link_by}
        ways = [
            {"kind": "ldap", "name": "site", "settings": directory},
            {"kind": "oidc", "name": "first", "settings": provider},
        ]
        return DaasAuthenticator(config=Config({"DaasAuthenticator": {"ways": ways}}))

    assert made(rule).providers["first"].authenticator.link_rule is not None
    with pytest.raises(ConfigError, match=text):
        made({**rule, **more})
