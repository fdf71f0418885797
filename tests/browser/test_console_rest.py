"""The console's REST interface on a real hub: what it says, whom it refuses, and that each change is audited."""

from __future__ import annotations

from pathlib import Path

import pytest

from daas_hub.db.ledger import Ledger
from daas_hub.services.console.access import (
    AUDIT_READ,
    CUSTOM_SCOPES,
    GROUPS_READ,
    GROUPS_WRITE,
    QUOTA_READ,
    QUOTA_WRITE,
)
from daas_hub.services.console.operations import OPERATIONS
from tests.browser import seeds
from tests.servers.console import ConsoleHub
from tests.servers.postgres import PostgresServer

pytestmark = [pytest.mark.needs("node")]

LIMIT = {"who": "group-each", "name": "lab", "resource": "cores", "amount": 4, "note": "term starts"}


async def test_my_usage_has_the_ledgers_numbers(hub: ConsoleHub, ledger: Ledger) -> None:
    seeds.limits(ledger)
    alice, bob = seeds.account(ledger, "alice", 5001), seeds.account(ledger, "bob", 5002)
    running = seeds.launch(ledger, alice, handle={"enforces_limits": False, "shared_uid": True})
    seeds.ended(ledger, seeds.launch(ledger, alice, "old", minutes_ago=20), "idle for 2 min (rule Basic)")
    other = seeds.launch(ledger, bob)
    status, mine = await hub.rest("GET", "me/usage", token=await hub.user_token("alice"))
    assert status == 200, mine
    lines = {(line["who"], line["resource"]): (line["amount"], line["used"], line["left"]) for line in mine["limits"]}
    assert lines["default-each", "servers"] == (5, 1, 4)
    assert lines["group-each", "memory_bytes"] == (8 * 2**30, 2**30, 7 * 2**30)
    # Both members' launches count for the group's total.
    assert lines["group-total", "cores"] == (16, 2, 14)
    assert [s["id"] for s in mine["servers"]] == [running.id]
    assert (mine["servers"][0]["limits_enforced"], mine["servers"][0]["shared_uid"]) == (False, True)
    assert [e["reason"] for e in mine["ended"]] == ["idle for 2 min (rule Basic)"]
    assert "handle" not in mine["servers"][0]
    for row in (running, other):
        seeds.ended(ledger, row, "over")


async def test_somebody_without_an_account_sees_the_rules(hub: ConsoleHub) -> None:
    status, mine = await hub.rest("GET", "me/usage", token=await hub.user_token("admin"))
    assert status == 200
    assert {line["who"] for line in mine["limits"]} == {"default-each"}
    assert mine["servers"] == []


async def test_each_change_of_a_limit_is_audited(hub: ConsoleHub) -> None:
    token = await hub.user_token("admin", QUOTA_WRITE, AUDIT_READ)
    status, made = await hub.rest("POST", "limits", LIMIT, token=token)
    assert (status, made["amount"]) == (200, 4), made
    path = f"limits/{made['id']}"
    status, changed = await hub.rest("PUT", path, {"amount": 8, "note": "more"}, token=token)
    assert (status, changed["amount"]) == (200, 8)
    assert await hub.rest("DELETE", f"{path}?note=over", token=token) == (204, "")
    assert (await hub.rest("GET", path, token=token))[0] == 404
    status, audit = await hub.rest("GET", "audit?limit=3", token=token)
    rows = [
        (r["who"], r["action"], (r["old"] or {}).get("amount"), (r["new"] or {}).get("amount"), r["why"])
        for r in audit["rows"]
    ]
    assert rows == [
        ("admin:admin", "limit_delete", 8, None, "over"),
        ("admin:admin", "limit_set", 4, 8, "more"),
        ("admin:admin", "limit_set", None, 4, "term starts"),
    ]


async def test_a_users_own_limit_is_by_name_and_beats_the_others(hub: ConsoleHub, ledger: Ledger) -> None:
    token = await hub.user_token("admin", QUOTA_WRITE)
    bob = seeds.account(ledger, "bob", 5002)
    status, made = await hub.rest(
        "POST", "limits", {"who": "user", "name": "bob", "resource": "servers", "amount": 1}, token=token
    )
    assert (status, made["name"]) == (200, "bob"), made
    stored = next(limit for limit in ledger.limits.list() if limit.id == made["id"])
    # A rename of the user does not lose it; people read her name all the same.
    assert stored.name == bob.id
    _, audit = await hub.rest("GET", "audit?limit=1", token=await hub.user_token("admin", AUDIT_READ))
    assert (audit["rows"][0]["about"], audit["rows"][0]["new"]["name"]) == ("user bob: Servers", bob.id)
    _, usage = await hub.rest("GET", "me/usage", token=await hub.user_token("bob"))
    mine = [(li["who"], li["name"], li["amount"]) for li in usage["limits"] if li["resource"] == "servers"]
    assert mine == [("user", "bob", 1)]
    _, listed = await hub.rest("GET", "limits", token=token)
    assert made in listed["limits"]
    assert (await hub.rest("PUT", f"limits/{made['id']}", {"amount": 2}, token=token))[1]["amount"] == 2
    assert (await hub.rest("DELETE", f"limits/{made['id']}", token=token))[0] == 204


@pytest.mark.needs("postgres")
async def test_the_same_on_postgresql(tmp_path: Path) -> None:
    server = PostgresServer()
    server.start()
    url = server.create_database("daas")
    hub = ConsoleHub(tmp_path, f"c.DaasHub.ledger_url = {url!r}\n")
    try:
        await hub.start()
        ledger = Ledger.open(url)
        seeds.limits(ledger)
        running = seeds.launch(ledger, seeds.account(ledger, "alice", 5001))
        ledger.close()
        status, mine = await hub.rest("GET", "me/usage", token=await hub.user_token("alice"))
        assert (status, [s["id"] for s in mine["servers"]]) == (200, [running.id]), mine
        token = await hub.user_token("admin", QUOTA_WRITE, AUDIT_READ)
        assert (await hub.rest("POST", "limits", LIMIT, token=token))[0] == 200
        _, audit = await hub.rest("GET", "audit?limit=1", token=token)
        assert audit["rows"][0]["why"] == LIMIT["note"]
    finally:
        await hub.stop()
        server.stop()
        server.remove()


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"amount": -1}, "amount"),
        ({"amount": "many"}, "amount"),
        ({"amount": 1e300}, "amount"),
        ({"resource": "servers", "amount": 1.5}, "amount"),
        ({"who": "somebody"}, "who"),
        ({"who": "user", "name": "nobody-knows-her"}, "name"),
        ({"who": "default-each"}, "name"),
        ({"name": ""}, "name"),
        ({"resource": "time"}, "resource"),
        ({"more": 1}, "more"),
        ({"amount": 0.0001}, "amount"),
        ({"name": "no-such-group"}, "confirm_name"),
        ({"who": "group-total", "name": "no-such-group"}, "confirm_name"),
        ({"who": "project-total", "name": "no-such-project"}, "confirm_name"),
    ],
)
async def test_a_wrong_limit_is_refused_by_field(hub: ConsoleHub, change: dict[str, object], field: str) -> None:
    token = await hub.user_token("admin", QUOTA_WRITE)
    before = await hub.rest("GET", "limits", token=token)
    status, refused = await hub.rest("POST", "limits", LIMIT | change, token=token)
    assert (status, refused["field"]) == (400, field), refused
    assert any(words in refused["message"] for words in ("not allowed", "no account", "has been seen here yet"))
    assert await hub.rest("GET", "limits", token=token) == before


async def test_a_group_that_nobody_has_seen_is_confirmed_once(hub: ConsoleHub, ledger: Ledger) -> None:
    token = await hub.user_token("admin", QUOTA_WRITE)
    new = LIMIT | {"name": "next-term"}
    _, refused = await hub.rest("POST", "limits", new, token=token)
    assert refused["message"].startswith("name: no group 'next-term' has been seen here yet. Check the spelling;")
    status, made = await hub.rest("POST", "limits", new | {"confirm_name": True}, token=token)
    assert (status, made["name"]) == (200, "next-term"), made
    # It has a limit now, so it is known.
    assert (await hub.rest("POST", "limits", new | {"who": "group-total"}, token=token))[0] == 200
    # A group that only the hub knows (`lab`, in LIMIT), and one of which something ran, need no word.
    row = seeds.launch(ledger, seeds.account(ledger, "alice", 5001), groups=("chemistry",))
    assert (await hub.rest("POST", "limits", LIMIT | {"name": "chemistry"}, token=token))[0] == 200
    seeds.ended(ledger, row, "over")
    for limit in ledger.limits.list():
        if limit.name in {"next-term", "chemistry"}:
            ledger.limits.delete(limit.id, "admin:test", seeds.NOW)


async def test_a_missing_right_is_said_in_words(hub: ConsoleHub) -> None:
    status, refused = await hub.rest("GET", "limits", token=await hub.user_token("alice"))
    assert (status, refused["message"]) == (
        403,
        "This is open only to those who may see the launches, limits, usage and volumes of everybody. "
        "Ask an administrator.",
    )
    assert "user alice lacks the scope custom:daas:quota:read" in hub.log_text()


@pytest.mark.parametrize("body", [b"{", b"[" * 50_000, b"\xff", b'{"amount": NaN}', b"null", b'"x"'])
async def test_what_is_no_limit_is_refused(hub: ConsoleHub, body: bytes) -> None:
    token = await hub.user_token("admin", QUOTA_WRITE)
    status, refused = await hub.rest("POST", "limits", body, token=token)
    assert (status, refused["reason"]) == (400, "options"), refused


async def test_launches_are_filtered_and_paged(hub: ConsoleHub, ledger: Ledger) -> None:
    token = await hub.user_token("admin", QUOTA_READ)
    carol, dave = seeds.account(ledger, "carol", 5003), seeds.account(ledger, "dave", 5004)
    # Four of one instant: a page must not end in the middle of it and lose or repeat one.
    rows = [seeds.launch(ledger, carol, f"s{n}", minutes_ago=100 if n else 101) for n in range(5)]
    theirs = seeds.launch(ledger, dave, minutes_ago=50)
    seen: list[str] = []
    before = ""
    while True:
        query = f"launches?user=carol&state=running&limit=2&before={before}"
        status, page = await hub.rest("GET", query, token=token)
        assert status == 200, page
        seen += [row["id"] for row in page["launches"]]
        if page["next"] is None:
            break
        before = page["next"]
    assert seen == [*sorted((row.id for row in rows[1:]), reverse=True), rows[0].id]
    status, page = await hub.rest("GET", "launches?user=nobody", token=token)
    assert page == {"launches": [], "next": None}
    pages = ("before=yesterday", f"before=-{rows[0].id}", f"before={'9' * 18}-{rows[0].id}", "before=7-%00")
    for wrong in ("state=gone", "limit=0", "limit=501", "limit=x", *pages):
        status, refused = await hub.rest("GET", f"launches?{wrong}", token=token)
        assert (status, refused["field"]) == (400, wrong.partition("=")[0]), refused
    for row in (*rows, theirs):
        seeds.ended(ledger, row, "over")


async def test_declare_lost_needs_stopping_the_typed_name_and_why(hub: ConsoleHub, ledger: Ledger) -> None:
    token = await hub.user_token("admin", QUOTA_WRITE, AUDIT_READ)
    row = seeds.launch(ledger, seeds.account(ledger, "erin", 5005))
    path = f"launches/{row.id}/declare-lost"
    lost = {"user_name": "erin", "why": "its machine burnt"}
    status, refused = await hub.rest("POST", path, lost, token=token)
    assert (status, refused["field"]) == (400, "state")
    seeds.stopping(ledger, row, "the host is gone")
    status, refused = await hub.rest("POST", path, lost | {"user_name": "Erin"}, token=token)
    assert (status, refused["field"]) == (400, "user_name")
    for without in ({"user_name": "erin"}, lost | {"why": " "}, lost | {"why": "x" * 501}):
        status, refused = await hub.rest("POST", path, without, token=token)
        assert (status, refused["field"]) == (400, "why"), refused
    status, detail = await hub.rest("POST", path, lost, token=token)
    assert (status, detail["launch"]["state"]) == (200, "ended"), detail
    assert detail["launch"]["reason"] == "declared lost: its machine burnt"
    status, audit = await hub.rest("GET", "audit?limit=1", token=token)
    [row] = audit["rows"]
    assert (row["action"], row["who"], row["why"]) == ("declare_lost", "admin:admin", "its machine burnt")


async def test_notices_are_dismissed_by_their_owner_only(hub: ConsoleHub, ledger: Ledger) -> None:
    frank = seeds.account(ledger, "alice", 5001)
    ledger.notices.add(frank.id, "", "idle for 2 min (rule Basic)", now=seeds.NOW)
    mine, theirs = await hub.user_token("alice"), await hub.user_token("bob")
    _, found = await hub.rest("GET", "me/notices", token=mine)
    assert [n["text"] for n in found["notices"]] == ["idle for 2 min (rule Basic)"]
    path = f"me/notices/{found['notices'][0]['id']}"
    assert (await hub.rest("DELETE", path, token=theirs))[0] == 404
    assert (await hub.rest("DELETE", path, token=mine))[0] == 204
    assert (await hub.rest("GET", "me/notices", token=mine))[1] == {"notices": []}


# ---------------------------------------------------------------- who may

ALL_SCOPES = set(CUSTOM_SCOPES)


def sent(path: str) -> str:
    """A path of the table with something in its places."""
    return (
        path.replace("{launch}", "0" * 32)
        .replace("{limit}", "999999")
        .replace("{notice}", "999999")
        .replace("{user}", "alice")
        .replace("{name}", "alice")
        .replace("{group}", "lab")
    )


async def test_every_path_is_closed_without_its_scope(hub: ConsoleHub) -> None:
    plain = await hub.user_token("alice")
    for operation in OPERATIONS:
        path = sent(operation.path)
        assert (await hub.rest(operation.method, path, {}))[0] == 403, operation
        assert (await hub.rest(operation.method, path, {}, token="wrong"))[0] == 403, operation
        status, _ = await hub.rest(operation.method, path, {}, token=plain)
        assert (status == 403) == bool(operation.scope), (operation, status)
        if operation.scope:
            including = {QUOTA_READ: {QUOTA_WRITE}, GROUPS_READ: {GROUPS_WRITE}}.get(operation.scope, set())
            others = ALL_SCOPES - {operation.scope} - including
            status, _ = await hub.rest(operation.method, path, {}, token=await hub.user_token("admin", *others))
            assert status == 403, operation


@pytest.mark.parametrize("narrowed", ["!user=alice", "!group=lab", "!user"])
async def test_a_filtered_scope_opens_nothing(hub: ConsoleHub, narrowed: str) -> None:
    token = await hub.user_token("admin", f"{QUOTA_WRITE}{narrowed}", f"{QUOTA_READ}{narrowed}")
    assert (await hub.rest("GET", "limits", token=token))[0] == 403
    assert (await hub.rest("POST", "limits", LIMIT, token=token))[0] == 403


async def test_hub_administration_scopes_alone_open_nothing(hub: ConsoleHub) -> None:
    token = await hub.user_token("admin", "admin:users!group=lab", "admin-ui", "list:users")
    assert (await hub.rest("GET", "limits", token=token))[0] == 403


async def test_a_user_cannot_get_a_token_with_our_scopes(hub: ConsoleHub) -> None:
    body = {"scopes": ["access:services!service=daas", QUOTA_WRITE]}
    status, _ = await hub.api("POST", "users/alice/tokens", body, token=await hub.user_token("alice", "inherit"))
    assert status in (400, 403)


# ---------------------------------------------------------------- machines


async def test_openapi_health_and_metrics(hub: ConsoleHub, ledger: Ledger) -> None:
    status, document = await hub.rest("GET", "openapi.json")
    assert (status, set(document["paths"])) == (200, {f"/{o.path}" for o in OPERATIONS})
    assert await hub.http("GET", f"{hub.console}health") == (200, {"status": "ok", "ledger": "ok"})
    url = f"{hub.console}metrics"
    assert (await hub.http("GET", url))[0] == 403
    plain = {"Authorization": f"token {await hub.user_token('admin', QUOTA_READ)}"}
    assert (await hub.http("GET", url, headers=plain))[0] == 403
    row = seeds.launch(ledger, seeds.account(ledger, "alice", 5001))
    headers = {"Authorization": f"token {await hub.user_token('admin', 'read:metrics')}"}
    status, text = await hub.http("GET", url, headers=headers)
    assert status == 200
    assert 'daas_launches_hold_count{backend="local",state="running"} 1.0' in text
    assert 'daas_reservations_hold_bytes{backend="local"} 1.073741824e+09' in text
    assert 'daas_launches_hold_count{backend="local",state="stopping"} 0.0' in text
    seeds.ended(ledger, row, "over")


async def test_unknown_paths_say_so_in_json(hub: ConsoleHub) -> None:
    status, answer = await hub.rest("GET", "nothing/here")
    assert (status, answer["reason"]) == (404, "not_found")


async def test_no_token_is_in_the_log(hub: ConsoleHub) -> None:
    token = await hub.user_token("alice")
    await hub.http("GET", f"{hub.console}api/v1/me/usage?token={token}", headers={"Authorization": f"token {token}"})
    assert token not in hub.log_text().replace("CONFIGPROXY", "")
