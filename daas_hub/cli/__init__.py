"""The command ``daas-hub``: what an operator does from a terminal."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from daas_hub.core.errors import DaasError

from .db import app as db_app
from .slurm import app as slurm_app
from .volumes import app as volumes_app

app = typer.Typer(help="JupyterHub as data analysis as a service.", no_args_is_help=True, add_completion=False)
app.add_typer(db_app, name="db")
app.add_typer(slurm_app, name="slurm")
app.add_typer(volumes_app, name="volumes")

CONFIG = Path("jupyterhub_config.py")


@app.command()
def demo(
    directory: Annotated[
        Path | None,
        typer.Option("--dir", help="Keep everything here and go on from it next time. Default: a new folder."),
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Do not remove the folder at the end.")] = False,
    port: Annotated[int, typer.Option(help="Port of the site on 127.0.0.1. 0: a free one.", min=0, max=65535)] = 0,
    idle_after: Annotated[
        int, typer.Option(help="Seconds after which an idle server of profile Basic is stopped.", min=15)
    ] = 120,
    no_open: Annotated[bool, typer.Option("--no-open", help="Do not open a browser.")] = False,
    ready_file: Annotated[
        Path | None, typer.Option(help="Write URL, folder and people there as JSON when everything answers.")
    ] = None,
    python_proxy: Annotated[
        bool, typer.Option("--python-proxy", help="Use the simpler Python proxy although Node's is there.")
    ] = False,
) -> None:
    """Try a whole site on this machine: directory, people, limits, servers. Ctrl-C stops all of it."""
    from daas_hub.demo.run import Options, main

    options = Options(directory, keep, port, idle_after, not no_open, ready_file, python_proxy)
    raise typer.Exit(main(options))


@app.command()
def doctor(
    config: Annotated[Path, typer.Option("--config", "-f", help="The hub's configuration.")] = CONFIG,
) -> None:
    """Check what a hub needs: settings, directory, ledger, backends, clock. One line each, with the fix."""
    from .doctor import examine

    errors = 0
    for finding in examine(config):
        errors += finding.level == "error"
        mark = {"ok": "ok   ", "note": "note ", "error": "ERROR"}[finding.level]
        typer.echo(f"{mark} {finding.what}: {finding.found}" + (f" → {finding.fix}" if finding.fix else ""))
    raise typer.Exit(1 if errors else 0)


@app.command()
def adopt(
    config: Annotated[Path, typer.Option("--config", "-f", help="The hub's configuration.")] = CONFIG,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    volumes: Annotated[
        bool, typer.Option("--volumes", help="Bind disks again that lost their claim or their namespace.")
    ] = False,
    skip_conflicts: Annotated[
        bool, typer.Option("--skip-conflicts", help="Leave out what conflicts name, and do the rest.")
    ] = False,
    without_directory: Annotated[
        bool, typer.Option("--without-directory", help="Believe the notes of servers and volumes alone.")
    ] = False,
    hub_api: Annotated[
        str, typer.Option("--hub-api", envvar="DAAS_ADOPT_API", help="The hub's REST URL. Default: by its settings.")
    ] = "",
    within: Annotated[int, typer.Option(help="Seconds to wait until the hub serves all servers.", min=1)] = 120,
) -> None:
    """Rebuild what was lost, around servers that run: ledger, volumes, users, tokens. Nothing that runs is touched.

    DAAS_ADOPT_TOKEN: a token of the hub with the scopes admin:users and servers.
    """
    from .adopt import Options, main

    token = os.environ.get("DAAS_ADOPT_TOKEN", "")
    options = Options(config, dry_run, volumes, skip_conflicts, without_directory, hub_api, token, within)
    raise typer.Exit(main(options, typer.echo))


@app.command("break-glass")
def break_glass(
    name: Annotated[str, typer.Argument(help="The local administrator's name; nobody else's in the site.")],
    password: Annotated[
        str, typer.Option(prompt=True, hide_input=True, confirmation_prompt=True, help="Asked for; not for scripts.")
    ],
) -> None:
    """Print a line for `DaasAuthenticator.break_glass_file`: a name, and a hashed password (12 characters or more)."""
    from daas_hub.auth.break_glass import line_of

    typer.echo(line_of(name, password))


def main() -> None:
    """Entry point of the command: our errors are sentences, not tracebacks."""
    try:
        app()
    except DaasError as error:
        typer.echo(error.message, err=True)
        raise SystemExit(1) from error
