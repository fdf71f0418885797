"""The seam between the hub and a place where servers run.

A backend starts, observes, stops and finds servers; it decides nothing about people, limits or the ledger.
``tests/contracts/backend.py`` is its contract in executable form and runs over every backend on a real engine.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from types import MappingProxyType

from traitlets import Float, Int, Unicode
from traitlets.config import LoggingConfigurable

from daas_hub.core.capacity import Capacity
from daas_hub.core.disks import DiskReport
from daas_hub.core.errors import BackendUnavailable, NotAllowed
from daas_hub.core.grants import Booked
from daas_hub.core.handout import Handout, TokenSet
from daas_hub.core.logs import LINES
from daas_hub.core.models import Account, Event, Found, Handle, Json, LaunchSpec, Observation, Pretender
from daas_hub.core.recall import OwnedVolume, Seen
from daas_hub.core.slurm_choices import May
from daas_hub.core.turns import Bounds
from daas_hub.core.volumes import Planned, plan_home

Checkpoint = Callable[[Handle], Awaitable[None]]
"""Saves a handle durably. A backend awaits it as soon as there is something that could be left behind,
and before it waits for anything (design.md, rule 8.3)."""

Doubt = Callable[[Observation], Awaitable[None]]
"""Is told what can, or can no longer, be said of a server that has not ended, and what else its place has given it."""


class Backend(LoggingConfigurable):
    """One place where servers run. Instances live as long as the hub; methods may be called concurrently."""

    name: str = ""
    """The word that profiles, handles and the ledger use: ``local``, ``kubernetes``, ``slurm``."""

    hub_id = Unicode("hub", help="The hub's name in handles, comments and labels; set by the hub (`DaasHub.hub_id`).")

    wait_policy_s = Int(
        120,
        help="How long a start may take here, in seconds, before it is given up with this backend's own error. "
        "Must be 1 or more; JupyterHub's start_timeout is set 30 s above the largest of the candidates.",
    ).tag(config=True)

    max_starting = Int(
        0,
        min=0,
        help="How many servers of this hub may be starting here at once: submitted, and not answering yet. Further "
        "starts wait in the hub's own queue, whose order is what each person used of her limits in 7 days. On SLURM "
        "jobs that wait in the cluster's queue count, too. 0, the default: any number.",
    ).tag(config=True)

    queue_wait_s = Int(
        3600,
        min=1,
        help="How long a start may wait for its turn in the hub's own queue, in seconds, before it is given up with "
        "an error that says so. Counts only where something is held back here (`max_starting`, "
        "`LocalBackend.room_cores`, `room_memory`). wait_policy_s begins when its turn has come.",
    ).tag(config=True)

    site_tokens_margin_s = Float(
        5.0,
        min=0.1,
        help="How long before a site token is over its file is removed where there is no fresh one, in seconds: how "
        "long files of a running server take to change here, and some more. A token that is not good for more than "
        "twice as long is not handed over. 5 on this machine, where a file changes at once; 120 on Kubernetes, where "
        "kubelet looks once a minute or so.",
    ).tag(config=True)

    has_partitions = False
    """Whether ``capacity`` tells partitions, each a place of its own."""

    tls: Mapping[str, str] = MappingProxyType({})
    """Paths of the hub's own ``client_key``, ``client_cert`` and ``ca_certs`` (internal_ssl), with which servers are
    asked; set by whoever makes the backend, empty where servers speak plain HTTP."""

    @property
    def bounds(self) -> Bounds:
        """What the hub keeps to here by itself; whoever finds no room waits in the hub's own queue."""
        return Bounds(self.max_starting)

    def patience_s(self) -> int:
        """How long a start may take here in all, with its wait for a turn, in seconds."""
        return int(self.wait_policy_s + (self.queue_wait_s if self.bounds.any else 0))

    @property
    def shares_uid(self) -> bool:
        """Whether everybody runs under one uid here, so that accounts may well have one uid between them."""
        return False

    @abstractmethod
    async def capacity(self) -> Sequence[Capacity]:
        """What is free, from a cached look; ``as_of`` tells its age. Never raises: unknown is a value.

        One for the backend, or one for each of its partitions, the default one first. Asked at each start and for
        each form of a hub with several places, and waited for some seconds at most.
        """

    async def may_use(self, account_name: str, *, max_age_s: float) -> May | None:  # noqa: ARG002
        """What this account may choose here beyond resources, as seen at most so long ago where it can be had; it tells
        its age. None: nothing is chosen here. Asked for a form and for a start whose profile leaves choices. Never
        raises, and is back within seconds."""
        return None

    def home_place(self, account: Account) -> Json:
        """Where the account's home is kept here, as its volume's row says it: by default a folder on this machine."""
        return {"version": 1, "path": account.home}

    def plan(self, account: Account, groups: Collection[str], wanted: Sequence[str]) -> tuple[Planned, ...]:  # noqa: ARG002
        """The volumes of a server here; ``wanted``: those that the profile names. By default the home alone.

        Raises StartFailed(permanent=True) where they cannot be had together.
        """
        return plan_home(account, self.home_place(account))

    def volume_names(self) -> tuple[str, ...] | None:
        """Which volumes a profile may name; None: any, and none is mounted (their folders are there anyway)."""
        return None

    @abstractmethod
    async def prepare(self, spec: LaunchSpec) -> Mapping[str, Json]:
        """Make what must exist before the start (home, folders, claims); idempotent.

        Returns what was made, by volume id: the caller writes it down, and from then on the mount is ``known``.
        Raises HomeRefused where a home is somebody else's, StartFailed(permanent=True) where a folder may not be made
        or a known volume is gone.
        """

    async def certificate_names(self, spec: LaunchSpec) -> Sequence[str]:  # noqa: ARG002
        """The names that the certificate of this launch is made for: all by which hub and proxy may reach its server.

        As ``DNS:name`` or ``IP:address``, before anything is started. Whoever has a certificate with the name of
        another server could answer in its place, so a name of this launch alone is better than one that many share.
        Raises StartFailed(permanent=True) where there can be none. By default the local host.
        """
        return ("DNS:localhost", "IP:127.0.0.1")

    @abstractmethod
    async def start(self, spec: LaunchSpec, checkpoint: Checkpoint) -> str:
        """Start the server as ``spec.account`` and return its URL once it accepts connections.

        Idempotent by ``spec.launch_id``: where a server of that launch already runs, its URL is returned.
        Raises StartFailed, BackendUnavailable or AccountRefused. Whatever it leaves behind when it raises or is
        cancelled is named by the last handle that was checkpointed; the caller stops that handle.
        """

    async def keep(self, volume_ids: Sequence[str]) -> Mapping[str, Json]:  # noqa: ARG002
        """Make sure that these volumes outlive the servers that use them. What became known of them, by volume id.

        Called after each start. Never raises: what is not kept yet, the reconciler keeps later.
        """
        return {}

    async def reported(self, handle: Handle, port: int) -> Handle | None:  # noqa: ARG002
        """What a server's own process tells of the port that it chose: the handle with it; None: nothing is taken.

        ``handle`` is the saved one, ``port`` 1024…65535, sent with the server's own token (``wiring/report.py``). What
        is returned is in the ledger before the process is answered; with None it is told (409) not to try again, and
        so it is where a handle has its port already. A start that waits for it checkpoints from then on handles that
        have it. Idempotent: it is asked again where the handle was changed meanwhile, or the answer was lost. Raises
        BackendUnavailable where it cannot be taken yet (503: the process tries again), as while the job's id is not
        known. By default none: here the hub chooses the port.
        """
        return None

    async def redeem(self, handle: Handle, code: str, by: str) -> Handout:  # noqa: ARG002
        """What the process of a launch is given for its claim code.

        ``by`` is a secret of that process, by which it may ask again where an answer was lost. Raises NotAllowed, whose
        reason says what is wrong, and BackendUnavailable where it cannot be told now. By default there are no codes.
        """
        raise NotAllowed("Nothing is handed out here.", reason="no_codes")

    async def fetched_tokens(self, handle: Handle, by: str) -> TokenSet:  # noqa: ARG002
        """The site tokens of a server whose own process fetches them: what was handed over last.

        ``by`` is the secret with which that process has claimed. Raises NotAllowed and BackendUnavailable as ``redeem``
        does. By default nobody has claimed anything.
        """
        raise NotAllowed("Nothing is handed out here.", reason="no_codes")

    async def told_log(self, handle: Handle, by: str, text: str) -> None:  # noqa: ARG002
        """The end of what a server printed, sent by its own process at its end: ``log_tail`` has it from then on.

        ``by`` and what it raises: as of ``fetched_tokens``. The text is anybody's; it is kept, and nothing else.
        """
        raise NotAllowed("Nothing is handed out here.", reason="no_codes")

    @abstractmethod
    async def resume(self, handle: Handle) -> str:
        """The URL of a server that an earlier hub started (adoption); waits while it is still coming up.

        Raises StartFailed where it has ended, BackendUnavailable where that cannot be told.
        """

    @abstractmethod
    async def inspect(self, handle: Handle) -> Observation:
        """One look. Changes nothing, never raises; what cannot be told is UNKNOWN."""

    @abstractmethod
    async def wait_ended(self, handle: Handle, *, doubt: Doubt | None = None) -> Observation:
        """Return once the server has ended, with the evidence. Runs for the server's whole life; may be cancelled.

        ``doubt`` is called when it cannot be told any more whether the server runs, with why, and when it can again:
        within 30 s of its being known here; and with each ``Observation.grant`` that is not as the one before, the
        first one included. A backend that always can tell, and where a server has what was asked, never calls it.
        """

    @abstractmethod
    async def stop(self, handle: Handle, *, within_s: float) -> Observation:
        """Stop the server and return what was seen: ENDED when that is certain, else RUNNING or UNKNOWN.

        First a polite request, then force, all within ``within_s`` seconds. Stopping what has ended is a no-op.
        """

    async def booked(self, handle: Handle) -> Booked | None:  # noqa: ARG002
        """What the place's own accounting has of a launch that has ended; None: it keeps none, or not of this one.

        Asked for launches whose end was seen before accounting had it (``Observation.booked`` not ``final``), again
        and again until it is final, for some days at most. Raises BackendUnavailable.
        """
        return None

    @abstractmethod
    def events(self, handle: Handle) -> AsyncIterator[Event]:
        """Steps of the start as they happen; ends when the start is over."""

    @property
    def estimate_every_s(self) -> float:
        """How often ``estimate`` may be asked for one start, in seconds; 0: never."""
        return 0.0

    async def estimate(self, handle: Handle) -> Event | None:  # noqa: ARG002
        """When a server that waits would start, where asking costs the place something: a step; None: not known.

        Asked only while somebody looks at the page of the start. Never raises.
        """
        return None

    @abstractmethod
    async def log_tail(self, handle: Handle, lines: int = LINES) -> str | None:
        """The last lines of what the server printed, also after its end until ``cleanup``; without secrets, at most
        64 KiB (``core.logs.readable``). Empty: it printed nothing. None: it cannot be told. Never raises."""

    async def hand_over(self, handle: Handle, files: Mapping[str, str]) -> None:  # noqa: ARG002
        """Replace the whole set of a server's site tokens: what is not in it is gone, and none is ever half there.

        Only its account may read them, in the folder that the variable ``DAAS_SITE_TOKENS`` of the server names. A
        backend that can do it says so in the handles of servers with ``spec.site_tokens``: ``"site_tokens": True``; by
        default none can. Idempotent. Raises BackendUnavailable, also where the server is gone.
        """
        raise BackendUnavailable(f"On {self.name} servers get no site tokens.", reason="site_tokens")

    async def handed_over(self, handle: Handle) -> Mapping[str, str]:  # noqa: ARG002
        """The set that is there, of this hub or an earlier one. Raises BackendUnavailable."""
        return {}

    async def software(self, handle: Handle) -> Json:  # noqa: ARG002
        """What a server is made of, as far as this place can tell: ``image``, ``image_digest``, ``manifest`` (name,
        version and sha256 of the description in the image), ``interpreter``, ``python``, ``packages`` (name to
        version). Never raises; what is not known is left out."""
        return {}

    @abstractmethod
    async def find(self) -> Sequence[Found]:
        """Everything of this hub's that exists here, whether or not anyone remembers it.

        Only what passes the test of design.md §4.3 (uid and recorded id) is listed. Raises BackendUnavailable.
        """

    async def leftovers(self) -> Sequence[Handle]:
        """A handle for each launch of this hub of which anything exists here, also where it has no server any more.

        By default nothing: what ``find`` lists is all, or the backend removes the rest itself. Raises
        BackendUnavailable.
        """
        return ()

    async def pretenders(self) -> Sequence[Pretender]:
        """What the last ``find`` saw that only says that it is a launch of this hub's: for the audit.

        It is neither taken for a launch nor touched. By default nothing: nobody else can write here.
        """
        return ()

    @abstractmethod
    async def cleanup(self, handle: Handle) -> None:
        """Remove what a settled launch leaves (token file, scratch folders, cgroup). Idempotent, never the home."""

    async def cleanup_lost(self, launch_id: str) -> None:
        """Remove what a start left that was interrupted before its handle was saved; the launch is settled next.

        Idempotent; by default there is nothing. Raises BackendUnavailable where something stays.
        """

    def claim(self, ledger_id: str) -> None:
        """Remember, where this backend keeps its servers, whose ledger knows them; when hub or reconciler start.

        Raises ConfigError where that is another ledger, whose servers would be stopped as unknown ones, and
        BackendUnavailable where that cannot be told now. May block.
        """

    async def recall(self) -> Seen:
        """What exists here and says itself whose it is: from this a lost ledger is rebuilt.

        Empty where nothing is kept beside the servers. Raises BackendUnavailable.
        """
        return Seen(self.name)

    async def token_of(self, handle: Handle) -> str | None:  # noqa: ARG002
        """The API token that a running server was given, where it is kept beside it. Raises BackendUnavailable."""
        return None

    async def take_over(self, ledger_id: str) -> None:
        """What is here is known to this ledger from now on, which was just rebuilt. Raises BackendUnavailable."""

    async def rebind(self, recorded: Sequence[OwnedVolume], *, dry_run: bool) -> DiskReport:  # noqa: ARG002
        """Give disks that outlived their claims a claim again. Raises BackendUnavailable."""
        return DiskReport()

    async def close(self) -> None:
        """Release what the instance holds (threads, connections). Servers go on."""
