"""``daas-hub volumes``: what becomes of the volumes of people who are gone."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from daas_hub.core.errors import DaasError

from .db import WAIT_S, Url

if TYPE_CHECKING:
    from daas_hub.clients.kube import Kube
    from daas_hub.db.ledger import Ledger
    from daas_hub.db.volumes import Volume

app = typer.Typer(help="Volumes of people who are gone: what is over, and letting it go.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keeps the subcommand's name although there is one."""


@app.command()
def expire(
    url: Url,
    yes: Annotated[bool, typer.Option("--yes", help="Delete what is listed. Without it nothing is changed.")] = False,
    kubeconfig: Annotated[
        str,
        typer.Option(
            envvar="KUBECONFIG",
            help="The cluster, with the rights of an administrator: the hub's own may delete no volume.",
        ),
    ] = "",
    context: Annotated[str, typer.Option(help="Context of that file. Default: its current one.")] = "",
    who: Annotated[str, typer.Option("--by", help="Who does it, for the audit trail.")] = "admin",
) -> None:
    """List volumes whose time is over (DaasHub.retention_days after the user was deleted); delete them with --yes."""
    from daas_hub.db.ledger import Ledger

    from .urls import require

    require(url)
    ledger = Ledger.open(url, busy_timeout_s=WAIT_S)
    try:
        due = ledger.volumes.due(datetime.now(UTC))
        for volume in due:
            typer.echo(_line(ledger, volume))
        if not due:
            typer.echo("No volume's time is over.")
        elif not yes:
            typer.echo(f"{len(due)} volumes. Nothing was deleted; run it again with --yes to delete them.")
        elif failed := asyncio.run(_all(ledger, due, kubeconfig, context, who)):
            typer.echo(f"{failed} of {len(due)} volumes are not removed yet; run it again.")
            raise typer.Exit(1)
    finally:
        ledger.close()


def _line(ledger: Ledger, volume: Volume) -> str:
    """What would be deleted, whose it was, and since when it waits."""
    account = ledger.accounts.by_id(volume.account_id or "")
    whose = f"{account.name} (uid {account.uid})" if account else "nobody known"
    since = f"{volume.retained_at:%Y-%m-%d}" if volume.retained_at else "an unknown day"
    return f"{volume.id}  {volume.name} of {whose} on {volume.backend}, retained since {since}: {_fate(volume)}"


def _fate(volume: Volume) -> str:
    made, place = volume.made or {}, volume.place
    claim = f"the claim {made.get('namespace')}/{made.get('claim')}"
    if not made and place.get("kind", "") in ("claim", "nfs", "hostPath"):
        return "it was never made, and is forgotten"
    if made.get("static"):
        return f"{claim} and its disk's entry are deleted; the folder {place.get('path')} stays, for the site to remove"
    if "claim" in made:
        return f"{claim} and its disk {made.get('disk', '')} are deleted, with ALL FILES on it".replace("  ", " ")
    return f"the folder {place.get('path')} stays, for the site to remove"


async def _all(ledger: Ledger, due: list[Volume], kubeconfig: str, context: str, who: str) -> int:
    """Let go of each, and say how it went. How many are left."""
    from daas_hub.clients.kube import Kube

    kube, failed = Kube(kubeconfig=kubeconfig, context=context), 0
    try:
        if any("claim" in (volume.made or {}) for volume in due):
            # Before anything is changed: there is a cluster, and it answers.
            await kube.call("GET", "/version")
        for volume in due:
            try:
                typer.echo(f"{volume.id}  {await _one(ledger, volume, kube, who)}")
            except DaasError as error:
                failed += 1
                typer.echo(f"{volume.id}  NOT REMOVED: {error.message}")
    finally:
        await kube.close()
    return failed


async def _one(ledger: Ledger, volume: Volume, kube: Kube, who: str) -> str:
    """First no start finds it any more, then it is deleted, then that is written down: a crash between is repeated."""
    from daas_hub.backends.kube_expire import remove

    now = datetime.now(UTC)
    if not ledger.volumes.expire(volume.id, now=now):
        return "is in use again, and stays"
    made = volume.made or {}
    done = "nothing of it was in a cluster"
    if "claim" in made:
        done = await remove(kube, volume.id, made)
    ledger.volumes.record_made(volume.id, {"removed_at": now.isoformat()})
    ledger.audit.append(now, who, "volume_expire", f"volume:{volume.id}", old=made or None, why=done)
    return f"expired: {done}"
