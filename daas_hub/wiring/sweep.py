"""The sweep: what directory and provider say of everybody who has signed in, looked at without a request of theirs.

JupyterHub refreshes a person only while she asks it something. The reconciler asks for page after page here every two
minutes; the hub looks, because it alone has the service account and the tokens (docs/reference/access.md).
"""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Any

from jupyterhub import orm
from prometheus_client import Counter, Gauge

from daas_hub.auth import looks
from daas_hub.auth.common import identity_in
from daas_hub.auth.looks import Look, Person
from daas_hub.core import access
from daas_hub.core.access import Access, Answer, believable
from daas_hub.core.errors import DaasError
from daas_hub.core.models import Identity
from daas_hub.spawners.runtime import DaasHub
from daas_hub.spawners.settings import SpawnerSettings

from .closed_profiles import ClosedProfiles
from .ending import Ending

PAGE = 50
"""People of one question: a slow directory answers it within the time of a sign-in."""
STORED_AGAIN_S = 300.0
"""A good answer is written down again when the stored one is older; the limits are hours."""
BY = "sweep"
NOTHING_TOLD = "The site's directory has told nothing about you for some time."
NEW_UID = "the site's directory gives your account another uid than the one that your files have"

ENDED = Counter("daas_access_ended", "People whose access was ended because of what their directory or provider said")
UNREACHABLE = Gauge("daas_identity_unreachable_people", "People of whom nothing could be told in the last sweep")
UNCLEAR = Gauge("daas_identity_unclear_people", "People of whom something that cannot be right was told, last sweep")
HELD = Gauge("daas_identity_held_people", "People who seem to have left, too many at once to be believed, last sweep")


@dataclass(frozen=True)
class Known:
    """What the last look at one person means."""

    access: Access
    age_s: float


known: dict[int, Known] = {}
"""Of each hub user that this process has looked at; lost with it, which costs one sweep."""


@dataclass
class Counts:
    """How a sweep went so far."""

    looked_at: int = 0
    ended: int = 0
    unreachable: int = 0
    unclear: int = 0
    held: int = 0
    """Of them those who seem to have left, too many at once to be believed."""


@dataclass(frozen=True)
class Leaving:
    """One person who was told to be gone."""

    person: Person
    look: Look


@dataclass
class Round:
    """One sweep over everybody, as far as it has come."""

    counts: Counts = field(default_factory=Counts)
    leaving: list[Leaving] = field(default_factory=list)


class Sweep:
    """One for a hub. ``page`` looks at some people and acts on what is said of them."""

    def __init__(self, site: DaasHub, settings: SpawnerSettings, ending: Ending) -> None:
        self._site, self._settings, self._ending = site, settings, ending
        self._closed = ClosedProfiles(site, settings, ending)
        self._rounds: dict[str, Round] = {}
        """Of each who asks: two of them do not count for one."""
        self._told: set[int] = set()
        """Of whom something unclear was logged already."""
        self.believe = False
        """Whether an administrator has said that the people who seem to be gone are: once."""

    async def page(self, handler: Any, after: int) -> tuple[int | None, Counts]:
        """The next people by their id in the hub; where to go on (None: that was all), and the counts so far."""
        who = handler.current_user.name
        if not after or who not in self._rounds:
            self._rounds[who] = Round()
        so_far = self._rounds[who]
        found = handler.db.query(orm.User).filter(orm.User.id > after, orm.User.encrypted_auth_state.isnot(None))
        rows = found.order_by(orm.User.id).limit(PAGE).all()
        people = [p for p in [await self._person(handler, row) for row in rows] if p is not None]
        began = self._site.now()
        for person, look in zip(people, await looks.look(handler.authenticator, people), strict=True):
            await self._acting(handler, self._judge(handler, so_far, person, look, began))
        over = len(rows) < PAGE
        await self._let_go(handler, so_far, over)
        if not over:
            return int(rows[-1].id), so_far.counts
        UNREACHABLE.set(so_far.counts.unreachable)
        UNCLEAR.set(so_far.counts.unclear)
        HELD.set(so_far.counts.held)
        return None, so_far.counts

    async def _person(self, handler: Any, row: Any) -> Person | None:
        """None where there is nothing to look at: no sign-in of ours, or one that was ended and left nothing."""
        user = handler._user_from_orm(row)
        state = await user.get_auth_state()
        if identity_in(state) is None:
            return None
        if state["daas"].get("ended_at") and not row.api_tokens and not user.active:
            return None
        return Person(user, state)

    async def _judge(self, handler: Any, so_far: Round, person: Person, look: Look, began: float) -> None:
        user, counts = person.user, so_far.counts
        counts.looked_at += 1
        if look.answer is Answer.VALID and look.model is not None:
            look = await self._same_uid(look, look.model)
        confirmed_at = float(person.state["daas"].setdefault("confirmed_at", began))
        age_s = 0.0 if look.answer is Answer.VALID else max(0.0, self._site.now() - confirmed_at)
        groups = {group.name for group in user.groups}
        fewer = look.model is not None and not groups <= set(look.model["groups"])
        decided = access.decide(
            look.answer, age_s=age_s, limits=self._site.identity_limits(), admin=user.admin, fewer_groups=fewer
        )
        known[user.id] = Known(decided, age_s)
        counts.unreachable += look.answer is Answer.UNREACHABLE
        counts.unclear += decided.alert
        self._alert(handler, user, look, decided)
        if decided.ends:
            so_far.leaving.append(Leaving(person, look))
        elif decided.browser is access.Browser.SIGN_IN:
            # The next request of her browser asks the provider itself, and sends her there.
            user._auth_refreshed = None
        elif look.model is not None:
            await self._store(handler, person, look.model)
            await self._closed.look(handler, user, look.model)

    def _alert(self, handler: Any, user: Any, look: Look, decided: Access) -> None:
        """Once, however long it lasts."""
        if not decided.alert:
            self._told.discard(user.id)
        elif user.id not in self._told:
            self._told.add(user.id)
            handler.log.error("What is said of %s cannot be right; nothing is started for her: %s", user.name, look.why)

    async def _same_uid(self, look: Look, model: dict[str, Any]) -> Look:
        identity = identity_in(model["auth_state"])
        if identity is None or not self._settings.sources().posix_attributes:
            return look
        number = identity.attributes.get("uid_number")
        row = await self._site.run(self._site.ledger.accounts.by_identity, identity.issuer, identity.subject)
        if row is None or not isinstance(number, int) or number == row.uid:
            return look
        return Look(Answer.REVOKED, why=NEW_UID)

    async def _let_go(self, handler: Any, so_far: Round, over: bool) -> None:
        """End the access of who has left: of a few at once, of more when everybody was looked at."""
        new = [one for one in so_far.leaving if not one.person.state["daas"].get("ended_at")]
        share = self._site.sweep_believes_share
        ends = so_far.counts.ended + len(new)
        believed = self.believe or believable(ends, so_far.counts.looked_at, share, over=over)
        if not believed and not over:
            return
        leaving, so_far.leaving = so_far.leaving, []
        for one in leaving:
            if believed or one not in new:
                await self._acting(handler, self._end(handler, so_far, one))
            else:
                self._hold(so_far, one)
        if not believed:
            so_far.counts.held = len(new)
            handler.log.critical(
                "%d of %d people seem to have left since the last sweep. That is not believed (DaasHub."
                "sweep_believes_share): nobody's access was ended. If it is right, see docs/reference/access.md.",
                len(new),
                so_far.counts.looked_at,
            )
        if over:
            self.believe = False

    def _hold(self, so_far: Round, one: Leaving) -> None:
        user, limits = one.person.user, self._site.identity_limits()
        age_s = max(0.0, self._site.now() - float(one.person.state["daas"]["confirmed_at"]))
        known[user.id] = Known(access.decide(Answer.UNCLEAR, age_s=age_s, limits=limits, admin=user.admin), age_s)
        so_far.counts.unclear += 1

    async def _acting(self, handler: Any, acting: Awaitable[None]) -> None:
        try:
            await acting
        except DaasError as error:
            # Of the ledger; nobody else waits for her.
            handler.log.error("What was said of somebody is acted on later: %s", error.log_message)

    async def _end(self, handler: Any, so_far: Round, one: Leaving) -> None:
        user, look = one.person.user, one.look
        state = await user.get_auth_state()
        if _vouched_since(state, one.person.state):
            # She has signed in while the question was on its way: the next sweep asks about that.
            return
        again = bool(state["daas"].get("ended_at"))
        if not again:
            so_far.counts.ended += 1
            ENDED.inc()
            handler.log.warning("The access of %s ends: %s", user.name, look.why)
            # Kept, so that nobody else becomes this user; who comes back signs in and is the same again.
            await user.save_auth_state({**state, "daas": {**state["daas"], "ended_at": int(self._site.now())}})
        await self._ending(handler, user, why=look.why, by=BY, again=again)

    async def _store(self, handler: Any, person: Person, model: dict[str, Any]) -> None:
        """What the hub knows of her becomes what was said now, where that is something else, or old."""
        user, state = person.user, await person.user.get_auth_state()
        fresh = model["auth_state"]
        if _key(state) != _key(fresh) or _session(state) != _session(fresh):
            return
        same = sorted(group.name for group in user.groups) == model["groups"] and bool(user.admin) == model["admin"]
        stored = state["daas"].get("confirmed_at", 0)
        known_well = identity_in(state) == identity_in(fresh) and not state["daas"].get("ended_at")
        if same and known_well and self._site.now() - stored < STORED_AGAIN_S:
            return
        if not same:
            handler.log.info("%s is now in the groups %s", user.name, ", ".join(model["groups"]) or "none")
        await handler.auth_to_user(model, user)


def _key(state: dict[str, Any] | None) -> tuple[str, str] | None:
    identity: Identity | None = identity_in(state)
    return (identity.issuer, identity.subject) if identity is not None else None


def _session(state: dict[str, Any] | None) -> Any:
    """Which of a provider's sign-ins it is; None without a provider."""
    return (((state or {}).get("daas") or {}).get("tokens") or {}).get("session")


def _vouched_since(state: dict[str, Any] | None, seen: dict[str, Any]) -> bool:
    """Whether something good was stored of her after that was read. Times alone do not tell: they are whole seconds."""
    if _key(state) != _key(seen) or _session(state) != _session(seen):
        return True
    then = seen["daas"]["confirmed_at"]
    return bool(((state or {}).get("daas") or {}).get("confirmed_at", then) > then)


def signed_in(user: Any) -> None:
    """She has just been vouched for: what the last sweep could not tell of her is over."""
    if user is not None:
        known.pop(user.id, None)


def banner(user: Any) -> str:
    """What stands above the pages of somebody whose last good answer is old; empty otherwise."""
    found = known.get(user.id) if user is not None else None
    if found is None or not found.access.banner:
        return ""
    if found.access.starts is access.Starts.CACHED:
        return "The site's directory cannot be asked just now. Your servers go on, and new ones start as ever."
    if read_only(user):
        return f"{NOTHING_TOLD} Your servers go on; new ones are not started, and nothing is changed from these pages."
    return f"{NOTHING_TOLD} Your servers go on; new ones are not started."


def read_only(user: Any) -> bool:
    """Whether her last good answer is so old that her browser may look at pages and change nothing."""
    found = known.get(user.id) if user is not None else None
    return found is not None and found.access.browser is access.Browser.READ_ONLY
