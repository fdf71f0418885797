"""The console's pure parts: who may, what forms mean, what is refused and how, and that the table is complete."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from openapi_spec_validator import validate

from daas_hub.core.errors import InvalidOptions
from daas_hub.core.models import Json, Resource, Who
from daas_hub.db.ledger import Ledger
from daas_hub.services.console import api, forms, pages, queries, volume_queries
from daas_hub.services.console import models as m
from daas_hub.services.console.access import CUSTOM_SCOPES, QUOTA_READ, QUOTA_WRITE, Person
from daas_hub.services.console.app import MetricsHandler
from daas_hub.services.console.handler import security_headers
from daas_hub.services.console.openapi import Operation, document
from daas_hub.services.console.operations import OPERATIONS
from daas_hub.services.console.parsing import parse
from daas_hub.services.console.presentation import environment, share, value, whose


@pytest.mark.parametrize(
    "scope",
    [
        f"{QUOTA_WRITE}!user=alice",
        f"{QUOTA_WRITE}!group=lab",
        f"{QUOTA_WRITE}!server=alice/",
        "custom:daas:quota",
        "admin:users",
        "admin-ui",
        QUOTA_READ,
    ],
)
def test_only_the_whole_scope_counts(scope: str) -> None:
    person = Person.from_model({"name": "eve", "kind": "user", "scopes": [scope], "admin": True})
    assert not person.may(QUOTA_WRITE)
    assert Person.from_model({"name": "eve", "scopes": [QUOTA_WRITE]}).may(QUOTA_WRITE)


def test_services_are_named_as_such() -> None:
    assert Person.from_model({"name": "alice", "kind": "service"}).by == "service:alice"


@pytest.mark.parametrize(
    ("text", "resource", "number"),
    [
        ("2", "servers", 2),
        ("0", "cores", 0),
        (" 1.5 ", "cores", 1.5),
        ("512M", "memory_bytes", 512 * 2**20),
        ("1.5G", "memory_bytes", 1.5 * 2**30),
    ],
)
def test_amounts_as_people_write_them(text: str, resource: str, number: float) -> None:
    assert forms.number(text, resource) == number


@pytest.mark.parametrize(
    ("text", "resource"),
    [
        ("", "servers"),
        ("many", "cores"),
        ("-1", "cores"),
        ("nan", "cores"),
        ("inf", "servers"),
        ("1 GB x", "memory_bytes"),
    ],
)
def test_other_amounts_are_refused_by_name(text: str, resource: str) -> None:
    form = {"who": "default-each", "name": "", "resource": resource, "amount": text, "note": ""}
    with pytest.raises(InvalidOptions) as refused:
        forms.limit(form)
    assert refused.value.field == "amount"


@pytest.mark.parametrize(("resource", "amount"), [("memory_bytes", 3 * 2**29), ("cores", 0.125), ("servers", 12345678)])
def test_an_amount_survives_the_form(resource: str, amount: float) -> None:
    row = m.LimitModel(id=1, who=Who.DEFAULT_EACH, name="", resource=Resource(resource), amount=amount)
    assert forms.number(forms.amount_text(row), resource) == amount


def test_a_refusal_names_field_given_and_allowed() -> None:
    with pytest.raises(InvalidOptions) as refused:
        parse(m.LimitIn, {"who": "nobody", "resource": "cores", "amount": 1})
    assert refused.value.field == "who"
    assert "'nobody'" in refused.value.message
    assert "default-each" in refused.value.message


@pytest.mark.parametrize("extra", [{"id": 3}, {"note": "x" * 501}, {"name": "a\nb"}, {"amount": float("inf")}])
def test_bodies_are_strict(extra: dict[str, object]) -> None:
    with pytest.raises(InvalidOptions):
        parse(m.LimitIn, {"who": "group-each", "name": "lab", "resource": "cores", "amount": 1, **extra})


LIMIT = {"who": "group-each", "name": "lab", "resource": "cores", "amount": 1}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (5, "body: 5 is not allowed; give a JSON object with who, name, resource, amount, note, confirm_name."),
        (
            {"who": "user", "amount": 1},
            "resource: nothing was given, which is not allowed; give one of servers, cores, memory_bytes, gpus.",
        ),
        (
            LIMIT | {"amount": -1},
            "amount: -1 is not allowed; give a number from 0 to 1125899906842624 (0 forbids), such as 4 or 0.5.",
        ),
        (LIMIT | {"note": "x" * 501}, f"note: '{'x' * 78}… is not allowed; give a text of at most 500 characters."),
        (LIMIT | {"confirm_name": "perhaps"}, "confirm_name: 'perhaps' is not allowed; give true or false."),
        (
            LIMIT | {"amuont": 1},
            "amuont: a field of this name is not allowed; "
            "give a JSON object with who, name, resource, amount, note, confirm_name.",
        ),
    ],
)
def test_refusals_are_sentences(body: object, said: str) -> None:
    with pytest.raises(InvalidOptions) as refused:
        parse(m.LimitIn, body)
    assert refused.value.message == said


def test_refusals_in_lists_are_sentences() -> None:
    row = {"uid": 1, "gid": 1, "home": "relative"}
    with pytest.raises(InvalidOptions, match=r"home: 'relative' is not allowed; give an absolute path"):
        parse(m.PosixRowIn, row)
    with pytest.raises(
        InvalidOptions, match=r"groups\.0\.gid: 0 is not allowed; give a whole number from 1 to 4294967294"
    ):
        parse(m.PosixRowIn, row | {"home": "/h", "groups": [{"name": "a", "gid": 0}]})
    with pytest.raises(InvalidOptions, match=r"groups: 5 is not allowed; give a list; each item is a JSON object with"):
        parse(m.PosixRowIn, row | {"home": "/h", "groups": 5})


@pytest.mark.parametrize("operation", [o for o in OPERATIONS if o.body is not None], ids=lambda o: o.path)
def test_no_field_speaks_as_its_library(operation: Operation) -> None:
    """Whatever is wrong with whichever field of a body: what is allowed is known in words."""
    assert operation.body is not None
    for field in operation.body.model_fields:
        for wrong in (None, {"a": 1}, "\x00" * 2000, -7.5):
            with pytest.raises(InvalidOptions) as refused:
                parse(operation.body, {field: wrong})
            assert "; give " in refused.value.message
            assert "OpenAPI" not in refused.value.message


def test_what_cannot_be_kept_exactly_is_refused(tmp_path: Path) -> None:
    """0.0001 cores would be kept as 0, which forbids everybody."""
    ledger = Ledger.open(f"sqlite:///{tmp_path}/ledger.sqlite")
    for resource, amount, allowed in (
        (Resource.CORES, 0.0001, "steps of 0.001"),
        (Resource.CORES, 1.0005, "steps of 0.001"),
        (Resource.SERVERS, 0.5, "a whole number"),
    ):
        with pytest.raises(InvalidOptions, match=allowed):
            ledger.limits.set(Who.DEFAULT_EACH, "", resource, amount, by="test", now=datetime.now(UTC))
        wanted = m.LimitIn(who=Who.DEFAULT_EACH, resource=resource, amount=amount)
        with pytest.raises(InvalidOptions, match=rf"amount: {amount} is not allowed; give .*{allowed}"):
            queries.check_limit(wanted)
    assert ledger.limits.list() == []
    assert (
        ledger.limits.set(Who.DEFAULT_EACH, "", Resource.CORES, 0.001, by="test", now=datetime.now(UTC)).amount == 0.001
    )
    ledger.close()


def test_a_size_below_one_byte_does_not_forbid() -> None:
    with pytest.raises(InvalidOptions, match="1 byte or more"):
        forms.number("0.0001K", "memory_bytes")
    assert forms.number("0", "memory_bytes") == 0


def test_a_huge_value_is_not_repeated() -> None:
    with pytest.raises(InvalidOptions) as refused:
        parse(m.LimitIn, {"who": "x" * 100_000, "resource": "cores", "amount": 1})
    assert len(refused.value.message) < 500


def test_openapi_is_valid() -> None:
    made = document(OPERATIONS, "/services/daas/api/v1/")
    validate(made)
    assert set(made["paths"]) == {f"/{o.path}" for o in OPERATIONS}
    assert made["servers"] == [{"url": "/services/daas/api/v1"}]


def test_table_and_handlers_agree() -> None:
    assert {h.path for h in api.HANDLERS} == {o.path for o in OPERATIONS}
    for handler in api.HANDLERS:
        methods = {name.upper() for name in ("get", "post", "put", "delete", "patch") if name in vars(handler)}
        assert methods == set(handler.needs), handler.path


def test_every_page_method_names_its_scope() -> None:
    for _, handler in pages.routes("/"):
        assert issubclass(handler, pages.Page)
        methods = {name.upper() for name in ("get", "post", "put", "delete") if name in vars(handler)}
        assert methods <= set(handler.needs), handler
    assert MetricsHandler.needs == {"GET": "read:metrics"}


def test_scopes_are_ours_and_described() -> None:
    assert all(name.startswith("custom:daas:") and d["description"] for name, d in CUSTOM_SCOPES.items())


def test_templates_escape_whatever_their_name() -> None:
    env = environment()
    assert env.from_string("{{ x }}").render(x="<b>") == "&lt;b&gt;"
    # What is marked safe is counted: each one is tornado's own form field.
    for name in env.list_templates(filter_func=lambda n: n.startswith("daas/console/")):
        source = env.loader.get_source(env, name)[0]  # type: ignore[union-attr]
        assert source.count("safe }}") == source.count("{{ xsrf | safe }}"), name


def test_policy_allows_nothing_inline() -> None:
    policy = security_headers("https://hub.example.org")["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert "script-src 'self' https://hub.example.org;" in policy
    assert "frame-ancestors 'none'" in policy


def test_words() -> None:
    assert whose("group-each", "lab") == "group lab, each member"
    assert whose("default-each", "") == "everybody, each person"
    assert value(None) == "–"
    assert value({"who": "user", "name": "x", "resource": "memory_bytes", "amount": 2**31}) == "2 GiB"
    assert value({"uid": 5, "gid": 6}) == "gid: 6, uid: 5"


@pytest.mark.parametrize(("used", "amount", "percent"), [(0, 2, "0.0"), (1, 2, "50.0"), (3, 2, "100.0"), (0, 0, "100")])
def test_share(used: float, amount: float, percent: str) -> None:
    line = m.UsageLine(resource=Resource.CORES, who=Who.USER, name="x", amount=amount, used=used, left=0)
    assert share(line) == percent


@pytest.mark.parametrize(("state", "words"), [("submitted", "starting"), ("running", "running"), ("ended", "ended")])
def test_a_state_is_told_in_words_that_people_use(state: str, words: str) -> None:
    parts = environment().get_template("daas/console/parts.html").make_module()
    launch = {"state": state, "stopping_since": None, "reason": "", "doubt": ""}
    assert str(parts.state(launch)).strip() == words  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("made", "size", "shown"),
    [
        ({"claim": "daas-1"}, None, "–"),
        ({"claim": "daas-1", "shape": {"capacity": {"storage": "2Gi"}}}, 2 * 2**30, "2 GiB"),
        ({"shape": {"capacity": {"storage": "1Gi"}}, "growth": {"state": "done", "has": "3Gi"}}, 3 * 2**30, "3 GiB"),
        ({"static": True, "shape": {"capacity": {"storage": "1Gi"}}}, None, "–"),
        ({"shape": {"capacity": {"storage": "large"}}}, None, "–"),
    ],
    ids=["not-kept-yet", "first-start", "grown", "folder-of-the-site", "unreadable"],
)
def test_the_size_of_a_volume_is_shown_once_its_disk_is_known(made: Json, size: int | None, shown: str) -> None:
    assert volume_queries.size_bytes(made) == size
    parts = environment().get_template("daas/console/parts.html").make_module()
    assert str(parts.growth({"growth": None, "size_bytes": size})) == shown  # type: ignore[attr-defined]
