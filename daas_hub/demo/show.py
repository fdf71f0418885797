"""What the demo tells the person in the terminal, and programs in the ready file."""

from __future__ import annotations

import json
from pathlib import Path

from rich.console import Console
from rich.table import Table

from daas_hub.core.units import format_duration

from .folders import write_whole
from .hub import Settings


def ready_file(path: Path, settings: Settings) -> None:
    """Write the ready file whole or not at all; only its owner may read it, because it holds passwords."""
    content = {
        "url": settings.url,
        "dir": str(settings.folders.path),
        "idle_after_s": settings.idle_after_s,
        "people": [person.public() for person in settings.site.people],
    }
    write_whole(path, json.dumps(content, indent=2) + "\n")


def ready(settings: Settings, console: Console) -> None:
    """The URL, the people, and where everything lies."""
    table = Table("Name", "Password", "Who", "Groups", "What is special")
    for person in settings.site.people:
        special = [
            "administrator" if person.admin else "",
            "locked in the directory: cannot sign in" if person.locked else "",
            "over quota: another start is refused, with numbers" if person.over_quota else "",
        ]
        row = (
            person.name,
            person.password,
            person.display_name,
            ", ".join(person.groups),
            " ".join(filter(None, special)),
        )
        table.add_row(*row)
    console.print(table)
    idle = format_duration(settings.idle_after_s)
    console.print(f"Rule: a server of profile Basic that is idle for {idle} is stopped; an open tab does not count.")
    if settings.shared_uid:
        console.print("[bold]shared uid: no isolation[/bold]: without root, every server runs as you.")
    if settings.proxy.lacks:
        console.print(f"[bold]{settings.proxy.lacks}[/bold]")
    kept = "it stays" if settings.folders.keep else "removed at the end"
    console.print(f"Files: {settings.folders.path} ({kept}).")
    console.print(f"\nOpen [bold]{settings.url}[/bold] and sign in. Ctrl-C stops everything.", highlight=False)
