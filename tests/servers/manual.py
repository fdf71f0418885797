"""A manual, followed: the commands of its ``sh`` blocks, section by section."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path


class Manual:
    """One page. ``site``: what a reader replaces; each of these words must be in it."""

    def __init__(self, path: Path, site: Mapping[str, str]) -> None:
        text = path.read_text(encoding="utf-8")
        for ours, theirs in site.items():
            assert ours in text, f"{path} has no {ours!r} any more"
            text = text.replace(ours, theirs)
        parts = re.findall(r"^## (.*)\n((?:(?!^## ).*\n)*)", text, re.MULTILINE)
        self._sections = {heading.strip(): body for heading, body in parts}
        self._followed: set[str] = set()

    def blocks(self, heading: str) -> list[str]:
        """The blocks of commands below the heading that begins so."""
        (found,) = [name for name in self._sections if name.startswith(heading)]
        self._followed.add(found)
        return re.findall(r"^```sh\n(.*?)^```", self._sections[found], re.MULTILINE | re.DOTALL)

    def steps(self, heading: str) -> Iterator[tuple[str, ...]]:
        """("sh", a script), and, as they stand between, the words of each ``systemctl``."""
        for block in self.blocks(heading):
            for script, words in re.findall(r"((?:(?!systemctl ).*\n)*)(systemctl .*)?\n?", block):
                if script.strip():
                    yield "sh", script
                if words:
                    yield tuple(words.split())

    def left(self) -> list[str]:
        """Headings with commands that nobody has followed."""
        return [name for name, body in self._sections.items() if "```sh\n" in body and name not in self._followed]
