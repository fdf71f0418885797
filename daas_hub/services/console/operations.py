"""Every REST path of the console: the table that handlers, OpenAPI and the reference's test all read."""

from __future__ import annotations

from . import group_models as gm
from . import models as m
from .access import ACCOUNTS_WRITE, ANYBODY, AUDIT_READ, GROUPS_READ, GROUPS_WRITE, LOGS_READ, QUOTA_READ, QUOTA_WRITE
from .openapi import Operation, Query

_BEFORE = Query("before", "The `next` of the page before; without it the newest.")
_LIMIT = Query("limit", "How many at most: 1 to 500; 50 without it.", "integer")
_NOTE = Query("note", "Why; kept in the audit.")

OPERATIONS: tuple[Operation, ...] = (
    Operation("GET", "me/usage", "My limits, what I use of them, and my servers", ANYBODY, m.MyUsage),
    Operation("GET", "me/notices", "What happened to my servers", ANYBODY, m.NoticeList),
    Operation("DELETE", "me/notices/{notice}", "Dismiss one of my notices", ANYBODY),
    Operation("GET", "me/volumes", "My volumes and those of my projects, and whether they grew", ANYBODY, m.MyVolumes),
    Operation(
        "GET",
        "volumes",
        "Volumes of everybody, newest first",
        QUOTA_READ,
        m.VolumeList,
        query=(
            Query("user", "Only this user's."),
            Query("state", "Only those in this state: `in_use`, `retained`, `expired`."),
            Query("growth", "Only those that grow so: `asked`, `resizing`, `done`, `refused`."),
            _BEFORE,
            _LIMIT,
        ),
    ),
    Operation(
        "GET",
        "launches",
        "Launches of everybody, newest first",
        QUOTA_READ,
        m.LaunchList,
        query=(Query("user", "Only this user's."), Query("state", "Only launches in this state."), _BEFORE, _LIMIT),
    ),
    # Whose launch it is decides here, so the scopes for other people's are not in the column.
    Operation(
        "GET",
        "launches/{launch}",
        f"One launch and its steps: mine, or with `{QUOTA_READ}` anybody's",
        ANYBODY,
        m.LaunchDetail,
    ),
    Operation(
        "GET",
        "launches/{launch}/log",
        f"The last lines of what its server printed: mine, or with `{LOGS_READ}` anybody's",
        ANYBODY,
        m.LaunchLog,
    ),
    Operation(
        "GET",
        "launches/{launch}/recipe",
        f"What it was started with and made of: mine, or with `{QUOTA_READ}` anybody's",
        ANYBODY,
        m.Recipe,
    ),
    Operation(
        "POST",
        "launches/{launch}/declare-lost",
        "End a launch in STOPPING without evidence; the owner's name must be given, and why",
        QUOTA_WRITE,
        m.LaunchDetail,
        m.Confirmation,
    ),
    Operation("GET", "limits", "All limits", QUOTA_READ, m.LimitList),
    Operation("POST", "limits", "Set a limit", QUOTA_WRITE, m.LimitModel, m.LimitIn),
    Operation("GET", "limits/{limit}", "One limit", QUOTA_READ, m.LimitModel),
    Operation("PUT", "limits/{limit}", "Change a limit's amount", QUOTA_WRITE, m.LimitModel, m.AmountIn),
    Operation("DELETE", "limits/{limit}", "Delete a limit", QUOTA_WRITE, query=(_NOTE,)),
    # Both rights may be held for one group: `…!group=<name>`.
    Operation("GET", "groups", "All groups, or those that the scope is filtered to", GROUPS_READ, gm.GroupList),
    Operation("POST", "groups", "Make a local group", GROUPS_WRITE, gm.GroupDetail, gm.NewGroup),
    Operation("GET", "groups/{group}", "One group and its members", GROUPS_READ, gm.GroupDetail),
    Operation(
        "DELETE",
        "groups/{group}",
        "Delete a local group",
        GROUPS_WRITE,
        query=(Query("confirm_name", "The group's name once more."), _NOTE),
    ),
    Operation(
        "PUT",
        "groups/{group}/members/{user}",
        "Make somebody a member of a local group, also before her first sign-in",
        GROUPS_WRITE,
        gm.GroupDetail,
        gm.MemberIn,
    ),
    Operation("DELETE", "groups/{group}/members/{user}", "End a membership", GROUPS_WRITE, query=(_NOTE,)),
    Operation("GET", "audit", "Who changed what, newest first", AUDIT_READ, m.AuditList, query=(_BEFORE, _LIMIT)),
    Operation("GET", "accounts/{user}", "The account of a user", ACCOUNTS_WRITE, m.AccountModel),
    Operation(
        "POST",
        "accounts/{user}/confirm-uid",
        "Accept the uid that a source now reports for this account",
        ACCOUNTS_WRITE,
        m.AccountModel,
        m.ConfirmUid,
    ),
    Operation("GET", "posix-rows/{name}", "A POSIX account entered by hand", ACCOUNTS_WRITE, m.PosixRow),
    Operation("PUT", "posix-rows/{name}", "Enter a POSIX account by hand", ACCOUNTS_WRITE, m.PosixRow, m.PosixRowIn),
    Operation("DELETE", "posix-rows/{name}", "Delete it", ACCOUNTS_WRITE, query=(_NOTE,)),
)
