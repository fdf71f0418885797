"""``daas-hub slurm``: what an operator puts on the host of a hub beside SLURM."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType
from typing import Annotated

import typer

from daas_hub.clients import daas_runas, daas_slurm_signer
from daas_hub.core.errors import ConfigError

app = typer.Typer(help="A hub beside SLURM.", no_args_is_help=True)
INSTALLED = "/usr/local/sbin/daas-runas"
SIGNER = "/usr/local/sbin/daas-slurm-signer"
PYTHON = "/usr/bin/python3"
PythonOption = Annotated[str, typer.Option("--python", help="The Python that runs it: root's own, 3.9 or newer.")]
_PATH = r"(/[A-Za-z0-9._+-]+)+"
_NAME = "[a-z_][a-z0-9_-]{0,31}"


@app.command()
def helper(
    python: PythonOption = PYTHON,
    settings: Annotated[str, typer.Option(help="Where its settings are; only root may write there.")] = (
        daas_runas.SETTINGS
    ),
) -> None:
    """Print the program daas-runas, to be installed as root: read it first, it is one page."""
    typer.echo(helper_text(python, settings), nl=False)


@app.command()
def signer(
    python: PythonOption = PYTHON,
    settings: Annotated[str, typer.Option(help="Where its settings are; only root may write there.")] = (
        daas_slurm_signer.SETTINGS
    ),
) -> None:
    """Print the program daas-slurm-signer, for SlurmBackend.submit_by = "rest": read it first, it is one page."""
    typer.echo(signer_text(python, settings), nl=False)


@app.command()
def sudoers(
    user: Annotated[str, typer.Option(help="The account that the hub runs as.")],
    path: Annotated[str, typer.Option(help="Where daas-runas is installed.")] = INSTALLED,
    signer: Annotated[
        str, typer.Option(help="Print the line for daas-slurm-signer instead, which runs as this account.")
    ] = "",
) -> None:
    """Print the one rule of sudoers that lets the hub call daas-runas, or the signer; sudo then asks no DNS."""
    if signer:
        typer.echo(sudoers_text(user, SIGNER if path == INSTALLED else path, signer))
    else:
        typer.echo(sudoers_text(user, path))


def helper_text(python: str = PYTHON, settings: str = daas_runas.SETTINGS) -> str:
    """daas-runas with this first line and this path of its settings; nothing else differs from the file."""
    return _installed(daas_runas, daas_runas.SETTINGS, python, settings)


def signer_text(python: str = PYTHON, settings: str = daas_slurm_signer.SETTINGS) -> str:
    """daas-slurm-signer, likewise."""
    return _installed(daas_slurm_signer, daas_slurm_signer.SETTINGS, python, settings)


def _installed(program: ModuleType, default: str, python: str, settings: str) -> str:
    for word, path in (("--python", python), ("--settings", settings)):
        if not re.fullmatch(_PATH, path):
            raise ConfigError(f"{word} is {path!r}; allowed is an absolute path of letters, digits and . _ + - alone.")
    first, rest = Path(str(program.__file__)).read_text(encoding="utf-8").split("\n", 1)
    line = f'SETTINGS = "{default}"\n'
    assert rest.count(line) == 1  # noqa: S101  both are this package's own
    return first.replace(PYTHON, python) + "\n" + rest.replace(line, f'SETTINGS = "{settings}"\n')


def sudoers_text(user: str, path: str = INSTALLED, becomes: str = "root") -> str:
    """One user, one account that it becomes, one program, no password; and calls that do not look this host up.

    Debian's sudo asks for the host's full name at each call, and waits for DNS where /etc/hosts lacks it.
    """
    if not all(re.fullmatch(_NAME, name) for name in (user, becomes)) or not re.fullmatch(_PATH, path):
        raise ConfigError(f"{user!r} and {path!r} must be the plain name of an account and an absolute path.")
    return f"Defaults:{user} !fqdn\n{user} ALL=({becomes}) NOPASSWD: {path}"
