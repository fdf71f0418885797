"""The tables of the ledger (design.md §3). The rows are the truth; ``balance`` and ``usage_hour`` are a checked cache.

Amounts are whole numbers: servers, thousandths of a core (``cores_m``), bytes, GPUs. Times are microseconds UTC.
A scope is ``user:<account id>``, ``group:<name>`` or ``project:<slug>``.
The schema expands in one release and contracts in the next; changes go through ``migrations``.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from .types import JSON_OBJECT, SERIAL, UtcTime, Words

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_N_label)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _amounts(*, nullable: bool = False) -> list[Column[Any]]:
    """What is counted. Nullable: unknown amounts exist (a launch without a limit on cores or memory)."""
    return [
        Column("servers", BigInteger, nullable=False),
        Column("cores_m", BigInteger, nullable=nullable),
        Column("memory_bytes", BigInteger, nullable=nullable),
        Column("gpus", BigInteger, nullable=False),
    ]


def _text(name: str) -> Column[str]:
    return Column(name, Words, nullable=False, server_default="")


# ---------------------------------------------------------------- launches

launch = Table(
    "launch",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("hub_boot_id", String(64), nullable=False),
    Column("account_id", String(64), nullable=False),
    Column("user_name", Text, nullable=False),
    Column("server_name", Text, nullable=False),
    Column("profile", Text, nullable=False),
    Column("backend", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("target", String(16), nullable=False),
    Column("target_reason", Words, nullable=False, server_default=""),
    Column("target_by", Text, nullable=False, server_default=""),
    Column("created_at", UtcTime, nullable=False),
    Column("started_at", UtcTime),
    Column("ends_at", UtcTime),
    Column("stopping_since", UtcTime),
    Column("ended_at", UtcTime),
    Column("heartbeat_at", UtcTime),
    Column("observed", String(16)),
    Column("observed_at", UtcTime),
    Column("observed_reason", Words, nullable=False, server_default=""),
    Column("request", JSON_OBJECT, nullable=False),
    Column("handle", JSON_OBJECT),
    Column("image_digest", Text),
    # What it was made of, as its backend reported once it ran.
    Column("software", JSON_OBJECT),
    # The end of its log, where it failed: the pod or folder that had it is gone.
    Column("log", Words),
    Column("api_token_encrypted", LargeBinary),
    Column("source", Text, nullable=False),
    *_amounts(nullable=True),
    Column("exit_code", Integer),
    Column("reason", Words, nullable=False, server_default=""),
    Column("evidence", Words, nullable=False, server_default=""),
    Index(
        "uq_launch_active",
        "account_id",
        "server_name",
        unique=True,
        sqlite_where=text("state <> 'ended'"),
        postgresql_where=text("state <> 'ended'"),
    ),
    Index("ix_launch_created", "created_at", "id"),
    Index("ix_launch_account_created", "account_id", "created_at"),
    Index(
        "ix_launch_log_ended",
        "ended_at",
        sqlite_where=text("log IS NOT NULL"),
        postgresql_where=text("log IS NOT NULL"),
    ),
    Index(
        "ix_launch_state_active",
        "state",
        sqlite_where=text("state <> 'ended'"),
        postgresql_where=text("state <> 'ended'"),
    ),
)

launch_scope = Table(
    "launch_scope",
    metadata,
    Column("launch_id", ForeignKey("launch.id"), primary_key=True),
    Column("scope", String(300), primary_key=True),
    sqlite_with_rowid=False,
)
"""What a launch counts against, frozen at admission."""

event = Table(
    "event",
    metadata,
    Column("launch_id", ForeignKey("launch.id"), primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("at", UtcTime, nullable=False),
    Column("message", Words, nullable=False),
    _text("detail"),
    Column("progress", Integer),
    sqlite_with_rowid=False,
)

usage = Table(
    "usage",
    metadata,
    Column("id", SERIAL, primary_key=True),
    Column("launch_id", ForeignKey("launch.id"), nullable=False),
    Column("from_at", UtcTime, nullable=False),
    Column("to_at", UtcTime),
    # How far usage_hour has this interval already; equal to to_at once it is closed.
    Column("counted_to_at", UtcTime, nullable=False),
    *_amounts(),
    Column("source", Text, nullable=False),
    _text("reason"),
    Index("ix_usage_launch_id", "launch_id"),
    Index(
        "uq_usage_open",
        "launch_id",
        unique=True,
        sqlite_where=text("to_at IS NULL"),
        postgresql_where=text("to_at IS NULL"),
    ),
)
"""Intervals in whole seconds during which a launch used what it was charged for."""

# ---------------------------------------------------------------- checked sums

balance = Table(
    "balance",
    metadata,
    Column("scope", String(300), primary_key=True),
    *_amounts(),
    sqlite_with_rowid=False,
)
"""What all active launches of a scope hold now."""

usage_hour = Table(
    "usage_hour",
    metadata,
    Column("scope", String(300), primary_key=True),
    Column("hour", Integer, primary_key=True),
    Column("server_s", BigInteger, nullable=False),
    Column("core_ms", BigInteger, nullable=False),
    Column("memory_byte_s", BigInteger, nullable=False),
    Column("gpu_s", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
"""Counted use per hour since 1970: seconds × servers, thousandths of cores, bytes, GPUs."""

# ---------------------------------------------------------------- rules

limits = Table(
    "limits",
    metadata,
    Column("id", SERIAL, primary_key=True),
    Column("who", String(32), nullable=False),
    Column("name", Text, nullable=False),
    Column("resource", String(32), nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("selector", Text, nullable=False, server_default=""),
    # 0 stands for "at once", so that the index below can tell equal rows.
    Column("window_s", Integer, nullable=False, server_default="0"),
    Column("starts_at", UtcTime),
    Column("ends_at", UtcTime),
    Column("note", Words, nullable=False, server_default=""),
    Column("set_by", Text, nullable=False),
    Column("set_at", UtcTime, nullable=False),
    Index("ix_limits_name", "name"),
    Index(
        "uq_limits_rule",
        "who",
        "name",
        "resource",
        "selector",
        "window_s",
        unique=True,
        sqlite_where=text("starts_at IS NULL AND ends_at IS NULL"),
        postgresql_where=text("starts_at IS NULL AND ends_at IS NULL"),
    ),
)

projects = Table(
    "projects",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("slug", String(63), nullable=False, unique=True),
    Column("gid", Integer, unique=True),
    Column("title", Words, nullable=False, server_default=""),
    Column("starts_at", UtcTime),
    Column("ends_at", UtcTime),
    Column("created_at", UtcTime, nullable=False),
)

project_members = Table(
    "project_members",
    metadata,
    Column("project_id", ForeignKey("projects.id"), primary_key=True),
    Column("account_id", ForeignKey("accounts.id"), primary_key=True),
    Column("role", String(16), nullable=False, server_default="member"),
    Column("added_at", UtcTime, nullable=False),
)

# ---------------------------------------------------------------- people

accounts = Table(
    "accounts",
    metadata,
    Column("id", String(64), primary_key=True),
    # The JupyterHub user that this account has now; two accounts never have the same.
    Column("user_name", Text, unique=True),
    Column("name", Text, nullable=False),
    Column("uid", BigInteger, nullable=False),
    Column("gid", BigInteger, nullable=False),
    Column("groups", JSON_OBJECT, nullable=False),
    Column("home", Text, nullable=False),
    Column("shell", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("display_name", Words, nullable=False, server_default=""),
    Column("fetched_at", UtcTime, nullable=False),
    Column("created_at", UtcTime, nullable=False),
)

account_uid = Table(
    "account_uid",
    metadata,
    Column("id", SERIAL, primary_key=True),
    Column("account_id", ForeignKey("accounts.id"), nullable=False),
    Column("uid", BigInteger, nullable=False),
    Column("gid", BigInteger, nullable=False),
    Column("seen_at", UtcTime, nullable=False),
    Column("confirmed_at", UtcTime),
    Column("confirmed_by", Text, nullable=False, server_default=""),
    Index("ix_account_uid_account_id", "account_id"),
)
"""Every uid that an account had or was said to have. One that is not confirmed must not run."""

account_rows = Table(
    "account_rows",
    metadata,
    Column("name", String(255), primary_key=True),
    Column("uid", BigInteger, nullable=False),
    Column("gid", BigInteger, nullable=False),
    Column("groups", JSON_OBJECT, nullable=False),
    Column("home", Text, nullable=False),
    Column("shell", Text, nullable=False),
    Column("display_name", Words, nullable=False, server_default=""),
    Column("set_by", Text, nullable=False),
    Column("set_at", UtcTime, nullable=False),
)
"""POSIX facts that an administrator entered, by login name."""

links = Table(
    "links",
    metadata,
    Column("id", SERIAL, primary_key=True),
    Column("issuer", String(500), nullable=False),
    Column("subject", String(500), nullable=False),
    Column("account_id", ForeignKey("accounts.id"), nullable=False),
    Column("proof", Text, nullable=False),
    Column("made_at", UtcTime, nullable=False),
    # What her provider called her when it was made.
    Column("label", Words, nullable=False, server_default=""),
    Column("last_used_at", UtcTime),
    UniqueConstraint("issuer", "subject"),
    Index("ix_links_account_id", "account_id"),
)
"""Which identity is which account. The key of an identity is (issuer, subject), never a name."""

ended_links = Table(
    "ended_links",
    metadata,
    Column("issuer", String(500), primary_key=True),
    Column("subject", String(500), primary_key=True),
    Column("account_id", ForeignKey("accounts.id"), primary_key=True),
    Column("ended_at", UtcTime, nullable=False),
)
"""What was unlinked, and by no more than an issuer's word is not linked again."""

requests = Table(
    "requests",
    metadata,
    Column("id", SERIAL, primary_key=True),
    Column("kind", String(32), nullable=False),
    Column("subject", Text, nullable=False),
    Column("body", JSON_OBJECT, nullable=False),
    Column("made_at", UtcTime, nullable=False),
    Column("decided_at", UtcTime),
    Column("decided_by", Text, nullable=False, server_default=""),
    Column("decision", String(16), nullable=False, server_default=""),
    Index(
        "uq_requests_open",
        "kind",
        "subject",
        unique=True,
        sqlite_where=text("decided_at IS NULL"),
        postgresql_where=text("decided_at IS NULL"),
    ),
)

notices = Table(
    "notices",
    metadata,
    Column("id", SERIAL, primary_key=True),
    Column("account_id", String(64), nullable=False),
    Column("server_name", Text, nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("text", Words, nullable=False),
    Column("dismissed_at", UtcTime),
    Column("launch_id", String(64)),
    Index("ix_notices_account_id_at", "account_id", "at"),
)

# ---------------------------------------------------------------- the rest

volumes = Table(
    "volumes",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("account_id", ForeignKey("accounts.id")),
    Column("project_id", ForeignKey("projects.id")),
    Column("name", Text, nullable=False),
    Column("backend", Text, nullable=False),
    Column("place", JSON_OBJECT, nullable=False),
    Column("state", String(16), nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("retained_at", UtcTime),
    Column("expires_at", UtcTime),
    Column("made", JSON_OBJECT),
    Index("ix_volumes_account_id", "account_id"),
)

audit = Table(
    "audit",
    metadata,
    Column("id", SERIAL, primary_key=True),
    Column("at", UtcTime, nullable=False),
    Column("who", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("old", JSON_OBJECT),
    Column("new", JSON_OBJECT),
    Column("why", Words, nullable=False, server_default=""),
)
"""Append-only: triggers on both engines refuse every change and every deletion."""

lease = Table(
    "lease",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("holder", Text, nullable=False),
    Column("until_at", UtcTime, nullable=False),
)

ledger_info = Table(
    "ledger_info",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("value", Text, nullable=False),
)
"""``runs_with``: the oldest revision whose code may use this schema (version N-1 runs on N's schema); ``id``: the
ledger's own, random; ``hub_id``: the hub that it belongs to."""
