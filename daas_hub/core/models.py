"""The words of the house as frozen values: identity, account, launch, limit, observation.

Nothing here reads a clock or the outside; whatever needs "now" takes it as an argument.
Times are aware datetimes in UTC, memory is in bytes, CPU in cores (a float: 0.5 is half a core).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from .errors import IllegalMove
from .grants import Booked, Grant

Json = dict[str, Any]
"""A JSON object as it is stored: only str keys and JSON values."""

# ---------------------------------------------------------------- who


@dataclass(frozen=True)
class Identity:
    """What somebody else asserts about a person: the directory or an identity provider (design.md §7).

    ``(issuer, subject)`` is the key; every other field is a label that may change.
    """

    issuer: str
    """``ldap:<name of the directory>`` or the OIDC issuer URL."""
    subject: str
    """entryUUID or objectGUID in a directory, ``sub`` in OIDC."""
    name: str
    """The canonical login name, already normalised (``core.naming.login_name``)."""
    display_name: str = ""
    mail: str = ""
    groups: tuple[str, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)
    """POSIX facts that came with it (``uid_number``, ``gid_number``, ``home``, ``shell``, ``posix_groups``)."""


@dataclass(frozen=True)
class AccountGroup:
    """One POSIX group of an account."""

    name: str
    gid: int


@dataclass(frozen=True)
class Account:
    """Local truth about who a server runs as. Resolved at every start, never guessed."""

    id: str
    """Our own stable key; survives renames."""
    name: str
    uid: int
    gid: int
    groups: tuple[AccountGroup, ...]
    """All groups, the primary one included."""
    home: str
    shell: str
    source: str
    """Which sources agreed, for example ``ldap+nss``."""
    fetched_at: datetime
    display_name: str = ""


# ---------------------------------------------------------------- launch


class LaunchState(StrEnum):
    """Where a launch is. The ledger's row is the state of record (design.md §3)."""

    RESERVED = "reserved"
    QUEUED = "queued"
    SUBMITTED = "submitted"
    RUNNING = "running"
    STOPPING = "stopping"
    ENDED = "ended"


class Target(StrEnum):
    """Where a launch should be. A person, the culler or a limit moves it to STOPPED, never back."""

    RUNNING = "running"
    STOPPED = "stopped"


_S = LaunchState
LEGAL_MOVES: Mapping[LaunchState, frozenset[LaunchState]] = {
    _S.RESERVED: frozenset({_S.QUEUED, _S.SUBMITTED, _S.STOPPING, _S.ENDED}),
    _S.QUEUED: frozenset({_S.RESERVED, _S.SUBMITTED, _S.STOPPING, _S.ENDED}),
    # Back to RESERVED: this candidate failed before anything ran and the next one is tried.
    _S.SUBMITTED: frozenset({_S.RESERVED, _S.RUNNING, _S.STOPPING, _S.ENDED}),
    _S.RUNNING: frozenset({_S.STOPPING, _S.ENDED}),
    # A stop that could not be confirmed stays here, counted, until there is evidence.
    _S.STOPPING: frozenset({_S.ENDED}),
    _S.ENDED: frozenset(),
}
ACTIVE = frozenset(LaunchState) - {LaunchState.ENDED}
"""States that hold a reservation. At most one such launch exists per account and server name."""


def check_move(old: LaunchState, new: LaunchState) -> None:
    """Raise IllegalMove unless ``new`` follows ``old`` in the table; a move to itself is a no-op and legal."""
    if new is not old and new not in LEGAL_MOVES[old]:
        raise IllegalMove(f"A launch cannot go from {old} to {new}.")


@dataclass(frozen=True)
class Charge:
    """What a launch counts for while it holds its reservation. A ``None`` is "no bound known", not zero."""

    cores: float | None = None
    memory_bytes: int | None = None
    gpus: int = 0
    servers: int = 1


@dataclass(frozen=True)
class Resources:
    """What a profile gives a server. ``None`` means no limit or no guarantee is set."""

    cpu_limit: float | None = None
    cpu_guarantee: float | None = None
    mem_limit_bytes: int | None = None
    mem_guarantee_bytes: int | None = None
    gpus: int = 0

    def charge(self) -> Charge:
        """The limit counts; the guarantee where no limit is set (design.md §3)."""
        return Charge(
            cores=self.cpu_limit if self.cpu_limit is not None else self.cpu_guarantee,
            memory_bytes=self.mem_limit_bytes if self.mem_limit_bytes is not None else self.mem_guarantee_bytes,
            gpus=self.gpus,
        )


@dataclass(frozen=True)
class LaunchRequest:
    """What a user chose, validated and resolved against the profiles: the only form options have inside."""

    profile: str
    """The profile's slug."""
    profile_display_name: str
    choices: Mapping[str, str]
    """Option key → choice key; ``<option>--unlisted-choice`` → the text the user gave."""
    resources: Resources
    backends: tuple[str, ...]
    """Allowed backends, or partitions of one (``slurm:gpu``), in order of preference."""
    environment: Mapping[str, str] = field(default_factory=dict)
    volumes: tuple[str, ...] = ()
    override: Mapping[str, Any] = field(default_factory=dict)
    """The merged ``kubespawner_override`` less what the fields above already took."""
    project: str | None = None
    placement: str = ""
    """The place that the user named: a backend, or a partition of one (``slurm:gpu``); empty: wherever it is best."""


@dataclass(frozen=True)
class Mount:
    """One folder a server sees. On one machine source and path are usually the same."""

    volume_id: str
    source: str
    """The folder on this machine; a backend with volumes of its own finds it by ``volume_id``."""
    path: str
    read_only: bool = False
    known: bool = False
    """The ledger has seen it made: it is never made anew where it is missing."""
    rule: str = "home"
    """The name of the site's rule that it was planned by."""
    name: str = "home"
    """What its row is called: the rule, and the group where there is one for each."""
    place: Mapping[str, Any] = field(default_factory=dict)
    """Where its data is, as the volume's row has it; empty: a claim that the cluster makes, or a folder here."""
    own: bool = True
    """This account's and nobody else's."""
    group_gid: int | None = None
    """The gid of the group whose volume it is; None: of no group."""


@dataclass(frozen=True)
class Memo:
    """What only the ledger knows of a launch. A backend may keep it beside the server, for a ledger that is lost."""

    identity: tuple[str, str] | None = None
    """Issuer and subject of whose account it is."""
    profile: str = ""
    profile_display_name: str = ""
    groups: tuple[str, ...] = ()
    """JupyterHub groups that it counts against."""
    project: str | None = None


@dataclass(frozen=True)
class LaunchSpec:
    """Everything a backend needs to start one server: complete, resolved, nothing left to look up."""

    launch_id: str
    hub_id: str
    """Names this hub in handles, comments and labels, so that two hubs on one cluster stay apart."""
    account: Account
    user_name: str
    server_name: str
    resources: Resources
    cmd: tuple[str, ...]
    """The single-user server's argv. No secret is ever in it (design.md, rule 8.7)."""
    environment: Mapping[str, str]
    """JUPYTERHUB_* and the profile's variables, without secrets."""
    secrets: Mapping[str, str]
    """Variables that only the server's own process may read (the API token)."""
    mounts: tuple[Mount, ...]
    service_prefix: str
    """``/user/<name>/<server>/``: the path under which the server answers."""
    override: Mapping[str, Any] = field(default_factory=dict)
    memo: Memo = Memo()
    certificates: Mapping[str, str] | None = None
    """Paths of this launch's own ``keyfile`` and ``certfile``, and of ``cafile``, on the hub (internal_ssl), or None.
    The first two are there until ``start`` is over."""
    site_tokens: bool = False
    """Tokens for other services will be handed over (``Backend.hand_over``): make a place for them."""
    origin: object | None = None
    """The hub's own spawner object, for builders and their hooks only (``backends/child.py``); None elsewhere."""


Handle = Json
"""What a backend needs to find its server again: versioned JSON with ``backend`` and ``version``."""


class Life(StrEnum):
    """What a backend can honestly say about a server."""

    RUNNING = "running"
    ENDED = "ended"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Observation:
    """One look at a server. ENDED only on positive evidence; whatever cannot be told is UNKNOWN."""

    life: Life
    exit_code: int | None = None
    reason: str = ""
    """For a person: why it ended, or why it cannot be told."""
    grant: Grant | None = None
    """What it has there now; None: its place tells nothing, and what was asked is what it has."""
    booked: Booked | None = None
    """With its end: what it has used; None: what was counted here is all that is known."""
    time_over: bool = False
    """Its place ended it because its time was over."""


@dataclass(frozen=True)
class Event:
    """One step of a start, for the progress page. ``detail`` is raw text that the page folds away."""

    at: datetime
    message: str
    detail: str = ""
    progress: int | None = None
    """0…100, never falling within one launch; None leaves the bar where it is."""
    as_of: datetime | None = None
    """When what it estimates was asked for: shown with its age. None: it estimates nothing."""
    replaces: str = ""
    """It takes the place of the step before it that says the same here: a place in a line, with its newest number. The
    ledger keeps the first of them. Empty: it replaces none."""


@dataclass(frozen=True)
class Found:
    """A server of ours that a backend found, whether or not the ledger or the hub know it."""

    launch_id: str | None
    handle: Handle
    uid: int
    started_at: datetime | None


@dataclass(frozen=True)
class Pretender:
    """Something of somebody's at a backend that says that it is a launch of this hub's, and is not."""

    key: str
    """What it is there, for good: ``17 of 2026-01-02T03:04:05+00:00``."""
    facts: Json
    """Whose it is, and what it says."""


# ---------------------------------------------------------------- limits


class Who(StrEnum):
    """Whose limit a row is (design.md §3)."""

    DEFAULT_EACH = "default-each"
    GROUP_EACH = "group-each"
    USER = "user"
    GROUP_TOTAL = "group-total"
    PROJECT_TOTAL = "project-total"


class Resource(StrEnum):
    """What can be limited at once (windows come with part E)."""

    SERVERS = "servers"
    CORES = "cores"
    MEMORY_BYTES = "memory_bytes"
    GPUS = "gpus"


@dataclass(frozen=True)
class Limit:
    """One row of ``limits``. ``amount`` 0 forbids; no row means unlimited."""

    id: int
    who: Who
    name: str
    """Group, project slug or account id; empty for default-each."""
    resource: Resource
    amount: float
    selector: str = ""
    """Later: only profiles, backends or partitions that match. Empty: everything."""
    window_s: int | None = None
    """None: at once. Windows belong to part E."""
    starts_at: datetime | None = None
    ends_at: datetime | None = None
