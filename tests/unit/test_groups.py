"""Whose groups count: the union of three sources, and which names a local group can have."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from daas_hub.core.errors import InvalidOptions
from daas_hub.core.groups import GroupSource, SiteGroups, require_free, runs, union

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
DIRECTORY, LOCAL, PROJECT = GroupSource.DIRECTORY, GroupSource.LOCAL, GroupSource.PROJECT


@pytest.mark.parametrize(
    ("directory", "site", "sources", "left_out"),
    [
        ((), SiteGroups(), {}, ()),
        (("lab",), SiteGroups(), {"lab": (DIRECTORY,)}, ()),
        (("lab", "lab"), SiteGroups(local=("gpu",)), {"gpu": (LOCAL,), "lab": (DIRECTORY,)}, ()),
        ((), SiteGroups(projects=("p-1",)), {"p-1": (PROJECT,)}, ()),
        # A project and the directory may mean the same people by one name: either makes her a member.
        (("p-1",), SiteGroups(projects=("p-1",)), {"p-1": (DIRECTORY, PROJECT)}, ()),
        (("p-1",), SiteGroups(), {"p-1": (DIRECTORY,)}, ()),
        # The name is a local group's: the directory makes nobody a member, also not who is none.
        (("gpu", "lab"), SiteGroups(taken=frozenset({"gpu"})), {"lab": (DIRECTORY,)}, ("gpu",)),
        (("gpu",), SiteGroups(local=("gpu",), taken=frozenset({"gpu"})), {"gpu": (LOCAL,)}, ("gpu",)),
        # Another one's clash is nothing to her.
        (("lab",), SiteGroups(taken=frozenset({"gpu"})), {"lab": (DIRECTORY,)}, ()),
        # JupyterHub's groups are told apart by case.
        (("GPU",), SiteGroups(local=("gpu",)), {"GPU": (DIRECTORY,), "gpu": (LOCAL,)}, ()),
    ],
)
def test_the_union_says_whose_each_group_is(
    directory: tuple[str, ...],
    site: SiteGroups,
    sources: dict[str, tuple[GroupSource, ...]],
    left_out: tuple[str, ...],
) -> None:
    found = union(directory, site)
    assert found.sources == sources
    assert found.names == tuple(sorted(sources))
    assert found.left_out == left_out


@pytest.mark.parametrize("name", ["a", "gpu-users", "0.9_x", "x" * 63])
def test_a_free_name_is_taken(name: str) -> None:
    require_free(name, local=["other"], projects=["p-1"], directory=["Jupyter Users"])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", "letters, digits"),
        ("GPU", "letters, digits"),
        ("-gpu", "letters, digits"),
        ("a b", "letters, digits"),
        ("gpu\n", "letters, digits"),
        ("g\u00fcnter", "letters, digits"),
        ("\u0430dmin", "letters, digits"),
        ("a!group=b", "letters, digits"),
        ("../x", "letters, digits"),
        ("x" * 64, "at most 63"),
        ("mine", "is a local group already"),
        ("p-1", "is a project"),
        ("lab", "'lab' is a group of the directory"),
        # A directory takes both spellings for one name; people would, too.
        ("operators", "'Operators' is a group of the directory"),
    ],
)
def test_a_name_of_somebody_elses_is_refused(name: str, words: str) -> None:
    with pytest.raises(InvalidOptions, match=words) as refused:
        require_free(name, local=["mine"], projects=["p-1"], directory=["lab", "Operators"])
    assert refused.value.field == "name"


@pytest.mark.parametrize(
    ("starts_s", "ends_s", "on"),
    [(None, None, True), (0, None, True), (1, None, False), (None, 1, True), (None, 0, False), (-2, -1, False)],
)
def test_a_project_counts_while_it_runs(starts_s: int | None, ends_s: int | None, on: bool) -> None:
    starts, ends = (None if s is None else NOW + timedelta(seconds=s) for s in (starts_s, ends_s))
    assert runs(starts, ends, NOW) is on
