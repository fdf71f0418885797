"""Our errors in the form that JupyterHub shows, logs and counts: ``SpawnException`` (rule 8.4)."""

from __future__ import annotations

import logging
from html import escape

from jupyterhub.spawner import SpawnException

from daas_hub.core.errors import DaasError, QuotaExceeded

MAX_LOGGED = 10_000
"""Characters of one message in the log."""


class ShowForm(SpawnException):
    """Raised when a link with ``?opt-…`` was opened: it never starts, the filled form is shown (design.md §4.6)."""

    jupyterhub_message = ""
    """The form itself says what the link filled in; the hub shows no error above it."""

    def __init__(self) -> None:
        super().__init__(
            "A link does not start a server: the form is shown.",
            reason="show_form",
            log_message="options came by link; the form is shown",
            status_code=200,
        )


class ShortLog(logging.Filter):
    """Keeps users out of the log's size: the hub adds a traceback for whoever mistyped an option (handlers/pages.py),

    and writes out the options of a PATCH, whatever their length (apihandlers/users.py).
    """

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
        try:
            text = record.getMessage()
        except (TypeError, ValueError, KeyError):
            # A mistake in a call of the log; logging reports it where it writes.
            return True
        if isinstance(error, SpawnException):
            record.msg, record.args, record.exc_info = f"{text}: {error}", None, None
            if isinstance(error, ShowForm):
                record.levelno, record.levelname = logging.INFO, "INFO"
        elif len(text) > MAX_LOGGED:
            record.msg, record.args = f"{text[:MAX_LOGGED]}… ({len(text)} characters)", None
        return True


def refusal(error: DaasError) -> SpawnException:
    """The hub's exception for ``error``: text for the person, for the log, metric label, HTTP status."""
    message = error.message
    if isinstance(error, QuotaExceeded) and error.fits:
        message += f" This would fit now: {', '.join(error.fits)}."
    elif isinstance(error, QuotaExceeded) and error.advice:
        message += f" No profile would fit now. {error.advice}"
    exception = SpawnException(
        message,
        reason=error.reason,
        log_message=error.log_message,
        message_html=escape(message),
        status_code=error.status,
    )
    # The spawn page shows this; without it, it shows the class, the reason and the log's text.
    exception.jupyterhub_message = message
    if error.retry_after_s is not None:
        exception.headers = {"Retry-After": str(max(1, round(error.retry_after_s)))}
    return exception
