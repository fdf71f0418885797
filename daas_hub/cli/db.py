"""``daas-hub db``: the ledger's schema and its books."""

from __future__ import annotations

from typing import Annotated

import typer

from daas_hub.core.errors import ConfigError

app = typer.Typer(help="The ledger: bring its schema up to date, check its books.", no_args_is_help=True)

WAIT_S = 60.0
"""How long to wait for writers of a running hub; nobody looks at a page meanwhile."""

Url = Annotated[
    str,
    typer.Option(
        envvar="DAAS_LEDGER_URL",
        help="The ledger, as in DaasHub.ledger_url: sqlite:////path or postgresql+psycopg://….",
    ),
]


@app.command()
def upgrade(url: Url) -> None:
    """Bring the ledger's tables to this version. Make a backup first; running hubs may go on."""
    from daas_hub.db.ledger import Ledger

    Ledger.open(url, busy_timeout_s=WAIT_S, create=True).close()
    typer.echo("The ledger is at this version.")


@app.command()
def recount(
    url: Url,
    fix: Annotated[bool, typer.Option("--fix", help="Write the recomputed numbers.")] = False,
) -> None:
    """Recompute every balance from the launches and name the differences. Exit status 1 where there are any."""
    from daas_hub.db import migrate
    from daas_hub.db.engine import Database
    from daas_hub.db.recount import recount as count

    from .urls import absent, masked

    db = Database(url, busy_timeout_s=WAIT_S)
    try:
        if absent(db):
            raise ConfigError(f"There is no ledger at {masked(url)}: check --url or DAAS_LEDGER_URL.")
        migrate.check(db)
        differences = count(db, fix=fix)
    finally:
        db.close()
    for difference in differences:
        typer.echo(str(difference))
    typer.echo(f"{len(differences)} differences" + (", corrected." if fix and differences else "."))
    raise typer.Exit(1 if differences and not fix else 0)
