"""Our errors in the form that JupyterHub shows, logs and counts: ``SpawnException`` (rule 8.4)."""

from __future__ import annotations

from html import escape

from jupyterhub.spawner import SpawnException

from daas_hub.core.errors import DaasError, QuotaExceeded


class ShowForm(SpawnException):  # type: ignore[misc]
    """Raised when a link with ``?opt-…`` was opened: it never starts, the filled form is shown (design.md §4.6)."""

    def __init__(self, problems: tuple[str, ...] = ()) -> None:
        super().__init__(
            " ".join(problems) or "Check what the link filled in, then press Start.",
            reason="show_form",
            log_message="options came by link; the form is shown",
            status_code=200,
        )


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
    if error.retry_after_s is not None:
        exception.headers = {"Retry-After": str(max(1, round(error.retry_after_s)))}
    return exception
