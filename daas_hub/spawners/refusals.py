"""Our errors in the form that JupyterHub shows, logs and counts: ``SpawnException`` (rule 8.4)."""

from __future__ import annotations

import logging
from html import escape

from jupyterhub.spawner import SpawnException

from daas_hub.core.errors import DaasError, QuotaExceeded


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


class OneLine(logging.Filter):
    """Logs a refusal as one line: the hub adds a traceback for whoever mistyped an option (handlers/pages.py)."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
        if isinstance(error, SpawnException):
            record.msg, record.args, record.exc_info = "%s: %s", (record.getMessage(), error), None
            if isinstance(error, ShowForm):
                record.levelno, record.levelname = logging.INFO, "INFO"
        return True


def refusal(error: DaasError) -> SpawnException:
    """The hub's exception for ``error``: text for the person, for the log, metric label, HTTP status."""
    message = error.message
    if isinstance(error, QuotaExceeded) and error.fits:
        message += f" This would fit now: {', '.join(error.fits)}."
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
