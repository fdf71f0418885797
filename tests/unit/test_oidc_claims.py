"""What is believed of verified claims: groups, mail, names; and how far clocks may be apart."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daas_hub.core import id_token, oidc_claims
from daas_hub.core.errors import TokenRefused
from daas_hub.core.naming import login_name
from daas_hub.core.oidc_claims import ClaimRules, GroupsElsewhere
from daas_hub.core.redirects import local_path
from tests.servers.forgeries import Token, public, rsa_key

RULES = ClaimRules("https://idp.site")
MANY = [f"group-{n}" for n in range(500)]


@pytest.mark.parametrize(
    ("path", "claims", "groups"),
    [
        (("groups",), {"groups": ["b", "a", "a"]}, ("a", "b")),
        (("groups",), {"groups": []}, ()),
        (("groups",), {"groups": "a b,c"}, ("a b,c",)),  # text is one name, never split
        (("realm_access", "roles"), {"realm_access": {"roles": ["a"]}}, ("a",)),
        (("https://site/a.b",), {"https://site/a.b": ["a"]}, ("a",)),
        (("groups",), {"groups": MANY}, tuple(sorted(MANY))),
        ((), {"groups": ["a"]}, ()),
    ],
)
def test_groups(path: tuple[str, ...], claims: dict[str, Any], groups: tuple[str, ...]) -> None:
    rules = ClaimRules("https://idp.site", groups_path=path)
    assert oidc_claims.identity_of({"sub": "1", **claims}, rules).groups == groups


@pytest.mark.parametrize(
    "value",
    [None, {}, 17, True, [1], [None], [""], ["a\nb"], ["x" * 256], [["a"]], "", "a\0", ["g"] * 5001, {"a": ["b"]}],
    ids=lambda v: str(v)[:20],
)
def test_groups_that_are_not_clear_refuse(value: Any) -> None:
    with pytest.raises(TokenRefused) as error:
        oidc_claims.identity_of({"sub": "1", "groups": value}, RULES)
    assert error.value.reason == "groups"


def test_a_missing_claim_is_no_groups_only_where_the_site_says_so() -> None:
    rules = ClaimRules("https://idp.site", groups_required=False)
    assert oidc_claims.identity_of({"sub": "1"}, rules).groups == ()
    for hint in ({"_claim_names": {"groups": "src1"}}, {"hasgroups": True}, {"hasgroups": "true"}):
        with pytest.raises(GroupsElsewhere):
            oidc_claims.identity_of({"sub": "1", **hint}, rules)


def test_a_prefix_keeps_providers_groups_apart() -> None:
    rules = ClaimRules("https://idp.site", group_prefix="idp:")
    assert oidc_claims.identity_of({"sub": "1", "groups": ["operators"]}, rules).groups == ("idp:operators",)


TRUSTED = {"https://idp.site": {"site.test"}, "https://other": {"other.test"}, "https://nobody": set()}
DOMAINS = ["site.test", "other.test", "SITE.test", "sub.site.test", "site.test.evil", "evilsite.test"]
VERIFIED = [True, False, None, "true", 1]


def test_mail_by_issuer_domain_and_verified() -> None:
    taken = set()
    for (issuer, trusted), domain, verified in product(TRUSTED.items(), DOMAINS, VERIFIED):
        rules = ClaimRules(issuer, mail_domains=frozenset(trusted))
        mail = oidc_claims.mail_of({"email": f"ada@{domain}", "email_verified": verified}, rules)
        if mail:
            assert verified is True
            taken.add((issuer, domain))
    assert taken == {
        ("https://idp.site", "site.test"),
        ("https://idp.site", "SITE.test"),
        ("https://other", "other.test"),
    }


NO_MAIL = [
    "a@b@site.test", "a@evil.test,b@site.test", "<a@site.test>", "a@site.test\n", "a b@site.test", "@site.test", 17,
    "a@evil.test\0@site.test", '"a@evil.test"@site.test', "a@site.test.", "a@sıte.test", ["a@site.test"],
]  # fmt: skip


@pytest.mark.parametrize("mail", NO_MAIL)
def test_mail_that_is_none(mail: Any) -> None:
    rules = ClaimRules("https://idp.site", mail_domains=frozenset({"site.test"}))
    assert oidc_claims.mail_of({"email": mail, "email_verified": True}, rules) == ""


PLAIN = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=20)


@settings(max_examples=100)
@given(PLAIN, PLAIN, PLAIN, PLAIN)
def test_derived_names_are_login_names_and_differ(issuer: str, subject: str, issuer2: str, subject2: str) -> None:
    name = oidc_claims.derived_name("u", issuer, subject)
    assert login_name(name) == name
    assert (name == oidc_claims.derived_name("u", issuer2, subject2)) == ((issuer, subject) == (issuer2, subject2))
    # The border between the two counts, too.
    assert name != oidc_claims.derived_name("u", issuer + subject[:1], subject[1:])


def test_display_names_carry_nothing_but_text() -> None:
    identity = oidc_claims.identity_of({"sub": "1", "groups": [], "name": "Ada\r\n\x1b[31m\u202e" + "x" * 500}, RULES)
    assert identity.display_name.isprintable()
    assert len(identity.display_name) <= 200


# ---------------------------------------------------------------- times

NOW = datetime.fromtimestamp(int(time.time()), UTC)
WHO = id_token.Expected("https://idp.site", "daas", nonce="n")


def judged(who: id_token.Expected = WHO, header: Any = None, body: Any = None, **claims: Any) -> str:
    """ "ok", or what is wrong with a token that says this; times are given relative to now."""
    base = {"iss": WHO.issuer, "aud": WHO.client_id, "sub": "1", "nonce": "n", "iat": 0, "exp": 300}
    absolute = {**base, **claims}
    for name in {"iat", "exp", "nbf"} & set(absolute):
        absolute[name] += NOW.timestamp()
    said = {"alg": "RS256", "kid": "first"} if header is None else header
    token = Token(said, absolute if body is None else body, rsa_key("first"), "").text()
    try:
        id_token.check(token, [public(rsa_key("first"), "first")], who, NOW)
    except TokenRefused as error:
        return error.reason
    return "ok"


@pytest.mark.parametrize(
    ("claims", "verdict"),
    [
        ({"exp": -59.5}, "ok"),
        ({"exp": -60}, "exp"),
        ({"iat": 60}, "ok"),
        ({"iat": 60.5}, "iat"),
        ({"iat": -660, "exp": 1}, "ok"),
        ({"iat": -660.5, "exp": 1}, "iat"),
        ({"nbf": 60}, "ok"),
        ({"nbf": 60.5}, "nbf"),
        ({"aud": ["daas"]}, "ok"),
        ({"aud": ["other", "daas"], "azp": "daas"}, "ok"),
        ({"aud": "daas", "azp": "daas"}, "ok"),
        ({"sub": "x" * 255}, "ok"),
    ],
)
def test_off_by_one(claims: dict[str, Any], verdict: str) -> None:
    assert judged(**claims) == verdict


@pytest.mark.parametrize(
    ("claims", "verdict"),
    [
        ({}, "ok"),
        ({"nonce": "first sign-in's"}, "ok"),
        ({"nonce": "another's"}, "nonce"),
        ({"nonce": None}, "nonce"),
        ({"sub": "2"}, "sub"),
        ({"sub": "1\t"}, "sub"),
    ],
)
def test_tokens_of_a_refresh(claims: dict[str, Any], verdict: str) -> None:
    who = id_token.Expected(WHO.issuer, WHO.client_id, old_nonce="first sign-in's", subject="1")
    said = {"iss": WHO.issuer, "aud": WHO.client_id, "sub": "1", "iat": NOW.timestamp(), "exp": NOW.timestamp() + 9}
    assert judged(who, body={**said, **claims}) == verdict


@pytest.mark.parametrize("subject", ["a\tb", "a\x00", "\n", "a\x7f"])
def test_subjects_are_printable(subject: str) -> None:
    assert judged(sub=subject) == "sub"


@pytest.mark.parametrize("body", [[], "text", 17, None, [{"sub": "1"}]])
def test_signed_claims_that_are_no_object(body: Any) -> None:
    token = Token({"alg": "RS256", "kid": "first"}, body, rsa_key("first"), "").text()
    with pytest.raises(TokenRefused) as error:
        id_token.verified(token, [public(rsa_key("first"), "first")])
    assert error.value.reason == "form"


@pytest.mark.parametrize(
    ("header", "reason"), [(["RS256"], "form"), ("RS256", "form"), ({"alg": "RS256", "kid": 1}, "kid")]
)
def test_headers_that_are_none(header: Any, reason: str) -> None:
    assert judged(header=header) == reason


@pytest.mark.parametrize("token", ["", ".", "..", "a.b", "a.b.c.d", ".b.c", "e30..c", "\x00.a.b", "é.é.é"])
def test_what_is_no_token(token: str) -> None:
    with pytest.raises(TokenRefused) as error:
        id_token.header_of(token)
    assert error.value.reason == "form"


def test_at_hash_is_that_of_the_standard() -> None:
    # OpenID Connect Core, appendix A.3
    assert id_token.at_hash("RS256", "jHkWEdUXMU1BwAsC4vtUsZwnNvTIxEl0z9K3vx5KF0Y") == "77QmUPtjPfzWtF2AnpK9RQ"


def logout(**claims: Any) -> str:
    event = {id_token.LOGOUT_EVENT: {}}
    base = {"iss": WHO.issuer, "aud": WHO.client_id, "sub": "1", "jti": "j", "iat": NOW.timestamp(), "events": event}
    said = {name: value for name, value in {**base, **claims}.items() if value is not None}
    token = Token({"alg": "RS256", "kid": "first", "typ": "logout+jwt"}, said, rsa_key("first"), "").text()
    try:
        id_token.check_logout_token(token, [public(rsa_key("first"), "first")], WHO, NOW)
    except TokenRefused as error:
        return error.reason
    return "ok"


@pytest.mark.parametrize(
    ("claims", "verdict"),
    [
        ({}, "ok"),
        ({"sub": None, "sid": "s"}, "ok"),
        ({"sub": None}, "sub"),
        ({"events": {}}, "events"),
        ({"events": None}, "events"),
        ({"events": {id_token.LOGOUT_EVENT: 1}}, "events"),
        ({"nonce": "n"}, "nonce"),
        ({"jti": None}, "jti"),
        ({"jti": 1}, "jti"),
        ({"iss": "https://other"}, "iss"),
        ({"aud": "other"}, "aud"),
        ({"iat": NOW.timestamp() - 61}, "exp"),
        ({"iat": NOW.timestamp() + 61}, "iat"),
        ({"iat": None}, "exp"),
    ],
)
def test_logout_tokens(claims: dict[str, Any], verdict: str) -> None:
    assert logout(**claims) == verdict


# ---------------------------------------------------------------- redirects

ELSEWHERE = [
    "https://evil.test", "//evil.test", "///evil.test", "/\\evil.test", "\\\\evil.test", "/\t/evil.test",
    "/\n/evil.test", "\x00//evil.test", "http:evil.test", "javascript:alert(1)", "data:text/html,x", "evil.test",
    "/%2f/evil.test", "/%5Cevil.test", "/..//evil.test", "/./\\evil.test", "/hub/..//evil.test", "/%2e%2e//evil.test",
    " //evil.test", "/ /evil.test", "/é", "\u2028//evil.test", "／／evil.test", "/\\/evil.test", "https:/\\evil.test",
    "//evil.test\\@hub.test", "/" + "a" * 5000, "", "?x", "#x", '/"onload=x',
]  # fmt: skip


@pytest.mark.parametrize("text", ELSEWHERE, ids=lambda t: ascii(t)[:30])
def test_what_leads_elsewhere(text: str) -> None:
    assert local_path(text) == ""


@pytest.mark.parametrize("text", ["/", "/hub/home", "/hub/spawn/ada?profile=x&y=%20z", "/user/a.b@c/lab/tree/x#y"])
def test_what_stays_here(text: str) -> None:
    assert local_path(text) == text
