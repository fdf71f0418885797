"""What the console's REST interface takes and gives: one pydantic model each; OpenAPI is made from them.

Units are in the names: ``_at`` aware UTC, ``cores`` in cores, ``_bytes`` in bytes. What comes in is strict: unknown
keys are refused, texts are bounded.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

from daas_hub.core.models import LaunchState, Resource, Target, Who
from daas_hub.db.launches import MAX_WHY

from .placement_models import PlacementModel

MAX_TEXT = 500

Note = Annotated[str, StringConstraints(strip_whitespace=True, max_length=MAX_TEXT)]
Why = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_WHY)]
Name = Annotated[
    str,
    StringConstraints(strip_whitespace=True, max_length=255, pattern=r"^[^\x00-\x1f\x7f]*$"),
    Field(json_schema_extra={"x-allowed": "a name of at most 255 characters, without control characters"}),
]
Amount = Annotated[
    float,
    Field(
        ge=0,
        le=2**50,
        allow_inf_nan=False,
        json_schema_extra={"x-allowed": f"a number from 0 to {2**50} (0 forbids), such as 4 or 0.5"},
    ),
]
"""Far below what the ledger holds, and up to here a float tells one whole unit from the next."""
Path = Field(json_schema_extra={"x-allowed": "an absolute path, without a colon and control characters"})


class Out(BaseModel):
    """An answer."""

    model_config = ConfigDict(extra="forbid")


class In(BaseModel):
    """A request's body."""

    model_config = ConfigDict(extra="forbid")


class LaunchModel(Out):
    """One launch of a server, as the ledger has it."""

    id: str
    user_name: str
    server_name: str = Field(description="Empty for the default server.")
    profile: str
    backend: str
    state: LaunchState
    target: Target
    created_at: AwareDatetime
    started_at: AwareDatetime | None
    ended_at: AwareDatetime | None
    stopping_since: AwareDatetime | None
    cores: float | None = Field(description="What it counts for; null where the profile sets no bound.")
    memory_bytes: int | None
    gpus: int
    groups: list[str]
    exit_code: int | None
    reason: str = Field(description="Why it ended, or is being stopped; for a person.")
    doubt: str = Field(description="Why it cannot be told whether its server runs; empty where it can. It counts.")
    stopped_by: str = Field(
        description="User name, `culler`, `limit` or `admin:<name>`; empty where it ended by itself."
    )
    limits_enforced: bool = Field(description="False where the backend cannot hold CPU and memory limits.")
    limits_note: str = Field(description="Why they cannot be held; empty where they are.")
    shared_uid: bool = Field(description="True where servers of several people run under one uid: no isolation.")


class LaunchList(Out):
    """A page of launches, newest first."""

    launches: list[LaunchModel]
    next: str | None = Field(description="Give this as `before` for the next page; null at the end.")


class EventModel(Out):
    """One step of a launch."""

    at: AwareDatetime
    message: str
    detail: str


class UsedModel(Out):
    """What a launch was counted for: up to the last full hour while it runs, all of it afterwards."""

    server_s: int
    core_s: float
    memory_byte_s: int
    gpu_s: int


class LaunchDetail(Out):
    """One launch with its steps."""

    launch: LaunchModel
    events: list[EventModel]
    has_log: bool = Field(description="Its server can be asked for its log, or the end of it was kept.")
    placement: PlacementModel | None = Field(description="Null where an earlier version of the hub placed it.")
    used: UsedModel


class LaunchLog(Out):
    """The end of what a server printed: at most 200 lines and 64 KiB, without secrets."""

    launch: str
    text: str | None = Field(description="Null where it cannot be told; empty where it printed nothing.")
    source: Literal["server", "kept", "none"] = Field(
        description="`server`: read now; `kept`: from the end of a server that failed; `none`: there is none."
    )


class RecipeProfile(Out):
    """The profile that was chosen."""

    slug: str
    display_name: str


class RecipeResources(Out):
    """What the server was given; null: no limit, no guarantee."""

    cpu_limit: float | None = None
    cpu_guarantee: float | None = None
    mem_limit_bytes: int | None = None
    mem_guarantee_bytes: int | None = None
    gpus: int = 0


class RecipeManifest(Out):
    """What the image says of itself: the description in which all its packages are named."""

    name: str
    version: str
    sha256: str | None = None


class RecipeSoftware(Out):
    """What the server was made of, as the place where it ran reported it. Null: it was not reported."""

    image: str | None = Field(default=None, description="As it was asked for.")
    image_digest: str | None = Field(default=None, description="`sha256:…` of what ran.")
    manifest: RecipeManifest | None = None
    interpreter: str | None = Field(default=None, description="Path of the Python that ran the server.")
    python: str | None = None
    packages: dict[str, str] | None = Field(default=None, description="Name to version.")


RECIPE_VERSION: Final = 1
"""Grows when a field changes its meaning or goes; fields that come leave it."""


class Recipe(Out):
    """What is needed to start the same server again, or to say in a paper what was used."""

    version: Literal[1] = RECIPE_VERSION
    launch: str
    user_name: str
    server_name: str
    created_at: AwareDatetime
    started_at: AwareDatetime | None
    ended_at: AwareDatetime | None
    profile: RecipeProfile
    choices: dict[str, str] = Field(description="What was chosen in it: the options of a start by REST.")
    resources: RecipeResources
    backend: str
    software: RecipeSoftware
    versions: dict[str, str] = Field(description="Of the hub's own parts when it was started.")


class UsageLine(Out):
    """One limit that applies to a person, with what it is used for now."""

    resource: Resource
    who: Who
    name: str = Field(description="The group, project or user whose rule it is; empty for the rule for everybody.")
    amount: float
    used: float
    left: float


class NoticeModel(Out):
    """Something a person should know about one of her servers, for example why it was stopped."""

    id: int
    at: AwareDatetime
    server_name: str
    text: str


class NoticeList(Out):
    """Notices that were not dismissed, newest first."""

    notices: list[NoticeModel]


class MyUsage(Out):
    """What applies to the person who asks, and what she runs."""

    user_name: str
    groups: list[str]
    limits: list[UsageLine]
    servers: list[LaunchModel]
    ended: list[LaunchModel] = Field(description="The last ended launches, newest first.")
    notices: list[NoticeModel]


class GrowthModel(Out):
    """How far a volume has grown that was asked to, as its last start saw it."""

    state: Literal["asked", "resizing", "done", "refused"]
    has_bytes: int
    to_bytes: int
    why: str = Field(description="Why it was refused.")
    words: str = Field(description="The same for a person, after the volume's name; empty where it has grown.")
    at: AwareDatetime | None = Field(description="When that was seen.")


class VolumeModel(Out):
    """A volume, as the ledger has it."""

    id: str
    name: str = Field(description="The site's rule, and the group where each group has one.")
    user_name: str | None = Field(description="Whose it is; null: not one person's.")
    project: str | None = Field(description="Slug of the project that has the group's gid.")
    backend: str
    folder: str | None = Field(description="The site's folder; null where the cluster made the disk.")
    claim: str | None = Field(description="Its claim in the cluster; null where there is none yet, or no cluster.")
    state: Literal["in_use", "retained", "expired"]
    created_at: AwareDatetime
    retained_at: AwareDatetime | None = Field(description="Since its user was deleted.")
    expires_at: AwareDatetime | None = Field(description="From then on it may be let go; null: never.")
    size_bytes: int | None = Field(description="Of its disk; null where it is not known, or is the site's folder.")
    growth: GrowthModel | None = Field(description="Null where it has never been looked at.")


class VolumeList(Out):
    """A page of volumes, newest first."""

    volumes: list[VolumeModel]
    next: str | None = Field(description="Give this as `before` for the next page; null at the end.")


class MyVolumes(Out):
    """The volumes of the person who asks, and of her projects."""

    volumes: list[VolumeModel]


class LimitModel(Out):
    """One limit. `amount` 0 forbids; where no row is, nothing is limited."""

    id: int
    who: Who
    name: str = Field(description="Group, project or user name; empty for `default-each`.")
    resource: Resource
    amount: float


class LimitList(Out):
    """All limits."""

    limits: list[LimitModel]


class LimitIn(In):
    """A limit to set. One that has the same `who`, `name` and `resource` is replaced."""

    who: Who
    name: Name = ""
    resource: Resource
    amount: Amount = Field(description="In the resource's unit: servers, cores, bytes, gpus. 0 forbids.")
    note: Note = Field(default="", description="Why; kept in the audit.")
    confirm_name: bool = Field(
        default=False, description="True sets it also for a group or a project that was never seen here."
    )


class AmountIn(In):
    """A new amount for an existing limit."""

    amount: Amount
    note: Note = ""


class Confirmation(In):
    """What must be typed before a server is declared lost: the name of its owner, and why."""

    user_name: Name
    why: Why = Field(description="Why it is certain enough; kept with the launch and in the audit.")


class AuditModel(Out):
    """One change. Rows are never changed or deleted."""

    id: int
    at: AwareDatetime
    who: str
    action: str
    subject: str = Field(description="What was changed, as `<kind>:<key>`.")
    about: str = Field(description="The same in words, with names in place of keys.")
    old: Any = None
    new: Any = None
    why: str


class AuditList(Out):
    """A page of the audit, newest first."""

    rows: list[AuditModel]
    next: int | None


class AccountModel(Out):
    """A POSIX account as it was last resolved."""

    id: str
    user_name: str
    name: str
    uid: int
    gid: int
    home: str
    source: str
    pending_uid: int | None = Field(description="Another uid that a source has since reported; null where none has.")
    pending_uid_holder: str | None = Field(description="The account that has that uid here; null where none has.")


class ConfirmUid(In):
    """The uid that is accepted: typed, so that it is the one that was looked at."""

    uid: Annotated[int, Field(ge=1, lt=2**32 - 1)]


class PosixGroup(In):
    """One POSIX group."""

    name: Annotated[
        str,
        StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._@+-]{0,63}$"),
        Field(json_schema_extra={"x-allowed": "a group's name: letters, digits and . _ @ + -, at most 64"}),
    ]
    gid: Annotated[int, Field(ge=1, lt=2**32 - 1)]


class PosixRowIn(In):
    """A POSIX account that an administrator enters. uid and gid 0 are refused here, reserved ones at the start."""

    uid: Annotated[int, Field(ge=1, lt=2**32 - 1)]
    gid: Annotated[int, Field(ge=1, lt=2**32 - 1)]
    home: Annotated[str, StringConstraints(max_length=1024, pattern=r"^/[^\x00-\x1f\x7f:]*$"), Path]
    shell: Annotated[str, StringConstraints(max_length=255, pattern=r"^/[^\x00-\x1f\x7f:]*$"), Path] = "/bin/bash"
    groups: list[PosixGroup] = []
    note: Note = ""


class PosixRow(Out):
    """An administrator's row."""

    name: str
    uid: int
    gid: int
    home: str
    shell: str
    groups: list[PosixGroup]


class Problem(Out):
    """Why something was refused."""

    status: int
    reason: str
    message: str
    field: str | None = None
