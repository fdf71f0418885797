"""One hub, one ledger, one place at each backend: what belongs to another hub is refused when the hub starts."""

from __future__ import annotations

from daas_hub.spawners.runtime import DaasHub


def claim(site: DaasHub) -> None:
    """Raise ConfigError where the ledger, or the place of a backend, belongs to another hub or ledger."""
    ledger_id = site.ledger.claim(site.hub_id)
    for name in site.backends:
        site.backend(name).claim(ledger_id)
