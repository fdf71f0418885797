"""The reference is true: everything that can be set, called or asked is named in it, and nothing that is not there."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import click
import pytest
import typer.main
from traitlets import HasTraits

import daas_hub
from daas_hub.cli import app

CLONE = Path(__file__).resolve().parents[2]
REFERENCE = CLONE / "docs" / "reference"


@cache
def reference() -> str:
    return "\n".join(path.read_text(encoding="utf-8") for path in sorted(REFERENCE.glob("*.md")))


def named(words: str) -> bool:
    """Whether the reference has these words as code, not as a part of longer ones."""
    return re.search(rf"(?<![\w.-]){re.escape(words)}(?![\w-]|\.\w)", reference()) is not None


@cache
def classes() -> tuple[type[HasTraits], ...]:
    """Every configurable class of ours."""
    found: dict[str, type[HasTraits]] = {}
    for info in pkgutil.walk_packages(daas_hub.__path__, "daas_hub."):
        # Files that run before anything is installed, migrations and service mains are no modules to import.
        if re.search(r"\.migrations\.|\.__main__$", info.name):
            continue
        for value in vars(importlib.import_module(info.name)).values():
            if isinstance(value, type) and issubclass(value, HasTraits) and value.__module__.startswith("daas_hub."):
                found[f"{value.__module__}.{value.__qualname__}"] = value
    return tuple(found.values())


def traits() -> Iterator[tuple[type[HasTraits], str]]:
    for cls in classes():
        for name, trait in sorted(cls.class_own_traits(config=True).items()):
            if trait.this_class is cls:
                yield cls, name


def test_every_trait_is_in_the_reference() -> None:
    missing = []
    for cls, name in traits():
        # A setting of a mixin is written under the class that people configure.
        spellings = {f"{c.__name__}.{name}" for c in classes() if issubclass(c, cls)}
        if not any(named(s) for s in spellings):
            missing.append(f"{cls.__name__}.{name}")
    assert missing == []


def test_every_trait_has_help() -> None:
    assert [f"{c.__name__}.{n}" for c, n in traits() if len(getattr(c, n).help) < 40] == []


def test_the_reference_names_no_trait_that_is_gone() -> None:
    by_name = {cls.__name__: cls for cls in classes()}
    gone = []
    for name, trait in re.findall(r"`(?:c\.)?([A-Z]\w+)\.([a-z]\w+)`", reference()):
        if name in by_name and not hasattr(by_name[name], trait):
            gone.append(f"{name}.{trait}")
    assert gone == []


def commands() -> Iterator[tuple[str, click.Command]]:
    def walk(path: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
        children = getattr(command, "commands", None)
        if children is None:
            yield path, command
            return
        for name, child in children.items():
            yield from walk(f"{path} {name}", child)

    yield from walk("daas-hub", typer.main.get_command(app))


def test_every_command_and_its_options_are_in_the_reference() -> None:
    missing = []
    for path, command in commands():
        if not named(path):
            missing.append(path)
        for parameter in command.params:
            option = next((o for o in parameter.opts if o.startswith("--")), None)
            if option and option != "--help" and not named(option):
                missing.append(f"{path} {option}")
    assert missing == []


def test_every_environment_setting_is_in_the_reference() -> None:
    files = [*(CLONE / "daas_hub").rglob("*.py"), CLONE / "tests" / "conftest.py"]
    files += [p for p in (CLONE / "scripts").rglob("*") if p.is_file() and "__pycache__" not in p.parts]
    used = {name for path in files for name in re.findall(r"\bDAAS_[A-Z][A-Z_]*[A-Z]\b", path.read_text("utf-8"))}
    assert used
    assert sorted(name for name in used if not named(name)) == []


def test_every_path_of_the_console_is_in_the_reference() -> None:
    from daas_hub.services.console.api import OPERATIONS

    assert OPERATIONS
    assert sorted({o.path for o in OPERATIONS if o.path.strip("/") not in reference()}) == []


def pages() -> list[Path]:
    found = [CLONE / "README.md", *(CLONE / "docs").rglob("*.md")]
    return [path for path in found if path.is_file()]


@pytest.mark.parametrize("page", pages(), ids=lambda p: str(p.relative_to(CLONE)))
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?:|mailto:|#)([^)#\s]+)", page.read_text(encoding="utf-8"))
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_every_page_is_reached_from_the_index() -> None:
    index = (CLONE / "docs" / "index.md").read_text()
    kept = [p for p in (CLONE / "docs").rglob("*.md") if p.name != "index.md" and p.parent.name != "decisions"]
    assert [str(p.relative_to(CLONE / "docs")) for p in kept if str(p.relative_to(CLONE / "docs")) not in index] == []


def test_each_decision_has_a_number_of_its_own() -> None:
    records = sorted(p for p in (CLONE / "docs" / "decisions").glob("*.md"))
    numbers = [p.name[:4] for p in records]
    assert sorted(set(numbers)) == numbers
    assert [p.name for p in records if not p.read_text(encoding="utf-8").startswith(f"# {p.name[:4]} ")] == []


def test_every_changelog_fragment_is_one_sentence_of_a_known_kind() -> None:
    fragments = [p for p in (CLONE / "changelog.d").iterdir() if p.name != "README.md"]
    wrong = [p.name for p in fragments if not re.fullmatch(r"[a-z0-9-]+\.(added|changed|fixed)\.md", p.name)]
    wrong += [p.name for p in fragments if not p.read_text().strip().endswith(".")]
    assert fragments
    assert wrong == []
