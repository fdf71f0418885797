"""The command ``daas-hub``."""

from __future__ import annotations

import typer

app = typer.Typer(help="JupyterHub as data analysis as a service.", no_args_is_help=True)


@app.callback()
def _root() -> None:
    """JupyterHub as data analysis as a service."""


def main() -> None:
    """Entry point of the command."""
    app()
