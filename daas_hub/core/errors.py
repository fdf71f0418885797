"""Every refusal and failure that somebody handles differently, in one tree.

DaasError
├── InvalidOptions            400  the user can mend it: names the field, the bound and the value given
├── NotAllowed                403  the administrator can mend it: group or profile
├── NotFound                  404  what was asked for does not exist (any more)
├── QuotaExceeded             403  the limit, whose it is, used, asked, what would fit
├── AccountRefused            403  the account must not run here (uid 0, reserved, two sources disagree)
├── AccountUnresolved         503  no source knows the account just now
├── DirectoryUnavailable      503  the directory cannot be asked: try again
│   ├── DirectoryBusy         503  too many ask it through this hub just now: try again in a moment
│   └── ProviderUnavailable   503  the identity provider cannot be asked, or answers nothing clear: try again
├── TokenRefused              403  what an identity provider sent is not all that it must be
├── LinkRefused               409  an identity cannot become a way into this account
├── SessionRevoked            403  the identity provider says that a sign-in has ended
├── LedgerBusy                503  the ledger is locked by another writer: try again
├── BackendUnavailable        503  the place where servers run cannot be asked: try again
├── HubUnavailable            503  the hub's REST interface does not answer as it should (services only)
├── LaunchConflict            409  another launch of the same server is active
├── IllegalMove               500  a launch was asked for a state that its table of moves forbids
├── StartFailed               500  the server could not be started here (permanent), or not now (temporary)
│   └── HomeRefused           403  the home is somebody else's, or not a folder: who administers the machine can mend it
└── ConfigError               –    the operator's setting cannot work: the hub refuses to start

Each carries four texts (design.md, rule 8.4): ``message`` for the person, ``log_message`` for the
operator, ``reason`` for the metric's label, ``status`` for HTTP; and ``retry_after_s`` where trying again helps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


class DaasError(Exception):
    """Raised when something is refused or fails in a way that a person must be told about."""

    status: ClassVar[int] = 500
    reason: str = "error"

    def __init__(
        self,
        message: str,
        *,
        reason: str | None = None,
        log_message: str = "",
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.log_message = log_message or message
        self.retry_after_s = retry_after_s
        if reason is not None:
            self.reason = reason


class InvalidOptions(DaasError):
    """Raised when what a user chose cannot be accepted; ``field`` is the key that is wrong."""

    status = 400
    reason = "options"

    def __init__(self, message: str, *, field: str, log_message: str = "") -> None:
        super().__init__(message, log_message=log_message)
        self.field = field


class NotAllowed(DaasError):
    """Raised when somebody asks for what is not open to her groups, or to the code that is shown."""

    status = 403
    reason = "not_allowed"


class NotFound(DaasError):
    """Raised when a launch, a limit, a notice or an account that somebody names does not exist."""

    status = 404
    reason = "not_found"


@dataclass(frozen=True)
class Exceeded:
    """One limit that a start would pass: the numbers of a refusal, in the unit of ``resource``."""

    resource: str
    """``servers``, ``cores`` or ``memory_bytes`` (later ``gpus`` and time windows)."""
    who: str
    """Whose limit: ``default-each``, ``group-each``, ``user``, ``group-total``, ``project-total``."""
    name: str
    """The group, project or user that the rule names; empty for ``default-each``."""
    amount: float
    used: float
    asked: float


class QuotaExceeded(DaasError):
    """Raised when a limit forbids a start; ``exceeded`` is the limit with least left."""

    status = 403
    reason = "quota"

    def __init__(
        self,
        message: str,
        *,
        exceeded: Exceeded,
        others: tuple[Exceeded, ...] = (),
        fits: tuple[str, ...] = (),
        advice: str = "",
    ) -> None:
        super().__init__(message)
        self.exceeded = exceeded
        self.others = others
        """Further limits that the same start would pass."""
        self.advice = advice
        """What she can do where nothing fits."""
        self.fits = fits
        """Display names of profiles that would fit now, cheapest change first."""


class AccountRefused(DaasError):
    """Raised when an account is known but must not run: uid 0, below min_uid, reserved, or in dispute."""

    status = 403
    reason = "account_refused"


class AccountUnresolved(DaasError):
    """Raised when no configured source can say who this account is (not linked, or unreachable)."""

    status = 503
    reason = "account_unresolved"


class DirectoryUnavailable(DaasError):
    """Raised when the directory cannot be asked: it refuses, hangs, or answers what is not LDAP."""

    status = 503
    reason = "directory_unavailable"


class DirectoryBusy(DirectoryUnavailable):
    """Raised when too many questions wait for the directory here; says nothing about the directory itself."""

    reason = "directory_busy"


class ProviderUnavailable(DirectoryUnavailable):
    """Raised when an identity provider cannot be asked, or what it answers is no answer: nobody was judged."""

    reason = "provider_unavailable"


class TokenRefused(DaasError):
    """Raised for a token, or an answer about a person, that fails a check; ``reason`` names the claim."""

    status = 403
    reason = "token"

    def __init__(self, message: str, *, reason: str | None = None, log_message: str = "") -> None:
        text = "The sign-in was refused: what the identity provider sent could not be verified. Sign in again."
        super().__init__(message or text, reason=reason, log_message=log_message)


class LinkRefused(DaasError):
    """Raised when an identity cannot be linked to an account, or unlinked; nothing was changed."""

    status = 409
    reason = "link"


class SessionRevoked(DaasError):
    """Raised when the identity provider says, in so many words, that a person's tokens are good no more."""

    status = 403
    reason = "revoked"


class TooManyAttempts(DaasError):
    """Raised when too many sign-ins failed for one person or from one address; the password was not judged."""

    status = 429
    reason = "attempts"


class LedgerBusy(DaasError):
    """Raised when another writer holds the ledger longer than ``busy_timeout_s``; nothing was written."""

    status = 503
    reason = "ledger_busy"


class BackendUnavailable(DaasError):
    """Raised when a backend cannot be asked or told anything now; says nothing about its servers."""

    status = 503
    reason = "backend_unavailable"


class HubUnavailable(DaasError):
    """Raised by a service when the hub cannot be asked, or refuses the service itself."""

    status = 503
    reason = "hub_unavailable"


class LaunchConflict(DaasError):
    """Raised when an active launch of the same account and server exists; ``launch_id`` names it."""

    status = 409
    reason = "launch_conflict"

    def __init__(self, message: str, *, launch_id: str) -> None:
        super().__init__(message)
        self.launch_id = launch_id


class IllegalMove(DaasError):
    """Raised when code asks for a state change that ``core.models.LEGAL_MOVES`` does not list."""

    reason = "illegal_move"


class StartFailed(DaasError):
    """Raised by a backend when a server cannot be started; ``permanent`` says that trying again here is useless."""

    reason = "start_failed"

    def __init__(self, message: str, *, permanent: bool, reason: str | None = None, log_message: str = "") -> None:
        super().__init__(message, reason=reason, log_message=log_message)
        self.permanent = permanent


class HomeRefused(StartFailed):
    """Raised when a home may not be used as it is: it was not touched, and another place may have another one."""

    status = 403
    reason = "home"

    def __init__(self, message: str) -> None:
        super().__init__(message, permanent=True)


class ConfigError(DaasError):
    """Raised at start-up when a setting cannot work; names the setting, its value and what is allowed."""

    reason = "config"
