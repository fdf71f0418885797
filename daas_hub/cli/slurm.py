"""``daas-hub slurm``: what an operator puts on the host of a hub beside SLURM."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from daas_hub.clients import daas_runas
from daas_hub.core.errors import ConfigError

app = typer.Typer(help="A hub beside SLURM.", no_args_is_help=True)
INSTALLED = "/usr/local/sbin/daas-runas"
PYTHON = "/usr/bin/python3"


@app.command()
def helper(
    python: Annotated[str, typer.Option(help="The Python that runs it: root's own, 3.9 or newer.")] = PYTHON,
    settings: Annotated[str, typer.Option(help="Where its settings are; only root may write there.")] = (
        daas_runas.SETTINGS
    ),
) -> None:
    """Print the program daas-runas, to be installed as root: read it first, it is one page."""
    typer.echo(helper_text(python, settings), nl=False)


@app.command()
def sudoers(
    user: Annotated[str, typer.Option(help="The account that the hub runs as.")],
    path: Annotated[str, typer.Option(help="Where daas-runas is installed.")] = INSTALLED,
) -> None:
    """Print the one line of sudoers that lets the hub call daas-runas."""
    typer.echo(sudoers_line(user, path))


def helper_text(python: str = PYTHON, settings: str = daas_runas.SETTINGS) -> str:
    """The program with this first line and this path of its settings; nothing else differs from the file."""
    for word, path in (("--python", python), ("--settings", settings)):
        if not re.fullmatch(r"(/[A-Za-z0-9._+-]+)+", path):
            raise ConfigError(f"{word} is {path!r}; allowed is an absolute path of letters, digits and . _ + - alone.")
    first, rest = Path(daas_runas.__file__).read_text(encoding="utf-8").split("\n", 1)
    line = f'SETTINGS = "{daas_runas.SETTINGS}"\n'
    assert rest.count(line) == 1  # noqa: S101  both are this package's own
    return first.replace(PYTHON, python) + "\n" + rest.replace(line, f'SETTINGS = "{settings}"\n')


def sudoers_line(user: str, path: str = INSTALLED) -> str:
    """One user, root, one program, no password."""
    if not re.fullmatch("[a-z_][a-z0-9_-]{0,31}", user) or not re.fullmatch(r"(/[A-Za-z0-9._+-]+)+", path):
        raise ConfigError(f"{user!r} and {path!r} must be the plain name of an account and an absolute path.")
    return f"{user} ALL=(root) NOPASSWD: {path}"
