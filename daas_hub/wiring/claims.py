"""One hub, one ledger, one place at each backend: what belongs to another hub is refused when the hub starts."""

from __future__ import annotations

from typing import Any

from daas_hub.core.errors import BackendUnavailable
from daas_hub.spawners.runtime import DaasHub


def claim(site: DaasHub, log: Any) -> None:
    """Raise ConfigError where the ledger, or the place of a backend, belongs to another hub or ledger."""
    ledger_id = site.ledger.claim(site.hub_id)
    for name in site.backends:
        try:
            site.backend(name).claim(ledger_id)
        except BackendUnavailable as error:
            # People must be able to sign in, and the reconciler asks once more before it acts there.
            log.warning("Whose servers %s has cannot be told yet: %s", name, error.log_message)
