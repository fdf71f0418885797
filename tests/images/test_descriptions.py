"""What is written beside each built image: its digest, every package with its version, its bill of materials."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.servers.kubernetes import images
from tests.servers.kubernetes.images import CLONE, SCRIPT, described, names, project

pytestmark = [pytest.mark.needs("images"), pytest.mark.timeout(120)]
LOCKS = {
    "singleuser-base": ("singleuser-base/lab.txt", "singleuser-base/kernel.txt"),
    "singleuser-datascience": ("singleuser-base/lab.txt", "singleuser-datascience/kernel.txt"),
    "hub": ("hub/requirements.txt",),
    "proxy": (),
}
PROMISED = {
    "singleuser-base": ("jupyterlab", "jupyterhub", "ipykernel"),
    "singleuser-datascience": (
        "numpy", "pandas", "scipy", "matplotlib", "scikit-learn", "jupyter-resource-usage", "jupyter-server-proxy",
    ),
    "hub": ("jupyterhub", "jupyterhub-kubespawner", "ldap3", "psycopg"),
    "proxy": ("configurable-http-proxy",),
}  # fmt: skip


def written(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Manifest and bill of materials of a built image."""
    image = project(name)
    stem = image.name.rpartition("/")[2].replace(":", "-")
    manifest, bill = (json.loads((described() / f"{stem}{end}").read_text()) for end in (".json", ".cdx.json"))
    assert manifest["image"] == image.name
    return manifest, bill


def plain(name: str) -> str:
    return re.sub("[-_.]+", "-", name).lower()


@pytest.mark.parametrize("name", names())
def test_each_package_is_named_with_the_version_that_is_there(name: str) -> None:
    manifest, bill = written(name)
    assert re.fullmatch("sha256:[0-9a-f]{64}", manifest["digest"])
    found = {(plain(package["name"]), package["version"]) for package in manifest["packages"]}
    assert {plain(each) for each in PROMISED[name]} <= {each for each, _ in found}
    for lock in LOCKS[name]:
        # A list for every Python names some packages twice, and some that only other systems install.
        asked = re.findall(r"^([\w.-]+)(?:\[.*?\])?==(\S+)", (CLONE / "images" / lock).read_text(), re.MULTILINE)
        versions: dict[str, set[str]] = {}
        for package, version in asked:
            versions.setdefault(plain(package), set()).add(version)
        there = {package for package, _ in found}
        missing = {p for p in versions if p in there and not any((p, v) in found for v in versions[p])}
        assert not missing, f"other versions than {lock} names"
    components = {(plain(component["name"]), component["version"]) for component in bill["components"]}
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    assert bill["metadata"]["component"]["name"] == name
    assert {(each.rpartition("/")[2], version) for each, version in found} <= {
        (each.rpartition("/")[2], version) for each, version in components
    }
    assert all(component["purl"].startswith("pkg:") for component in bill["components"])


def test_the_promised_data_packages_are_in_the_bill() -> None:
    _, bill = written("singleuser-datascience")
    purls = [component["purl"] for component in bill["components"]]
    lock = (CLONE / "images/singleuser-datascience/kernel.txt").read_text()
    (numpy,) = (purl for purl in purls if purl.startswith("pkg:pypi/numpy@"))
    assert f"numpy=={numpy.rpartition('@')[2]} " in lock
    assert any(purl.startswith("pkg:cran/IRkernel@") for purl in purls)
    assert any(purl.startswith("pkg:deb/debian/r-base-core@") for purl in purls)


def test_an_image_that_is_none_is_refused_with_those_that_are() -> None:
    done = subprocess.run([sys.executable, SCRIPT, "singeluser"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no such image: singeluser; there are singleuser-base, singleuser-datascience, hub, proxy" in done.stderr


@pytest.mark.parametrize("name", names())
def test_no_registry_is_named_and_every_list_is_hashed(name: str) -> None:
    text = (CLONE / "images" / name / "Dockerfile").read_text()
    stages = set(re.findall(r"^FROM \S+ AS (\w+)", text, re.MULTILINE))
    for image in re.findall(r"^FROM (\S+)", text, re.MULTILINE):
        assert image in {"debian:bookworm-slim", "${BASE}", *stages}
    assert "://" not in text
    installs = re.findall(r"pip install [^&\n]*", text)
    assert all("--require-hashes" in each or "--no-deps --no-build-isolation" in each for each in installs)
    for list_of in Path(CLONE / "images" / name).glob("*.txt"):
        blocks = re.split(r"\n(?=\S)", list_of.read_text())
        assert all("--hash=sha256:" in block for block in blocks if re.match(r"[\w.-]+==", block))


def test_the_chart_asks_for_the_versions_that_are_built() -> None:
    values = yaml.safe_load((CLONE / "helm/daas-hub/values.yaml").read_text())
    for name in ("hub", "proxy"):
        asked = values[name]["image"]
        assert asked["name"] == f"daas-hub/{name}"
        assert f"\nARG VERSION={asked['tag']}\n" in (CLONE / "images" / name / "Dockerfile").read_text()


def test_the_cache_keeps_few_versions_of_an_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAAS_CACHE", str(tmp_path))
    folder = described()
    folder.mkdir(parents=True)
    for age, name in enumerate(("hub-d", "hub-c", "proxy-a", "hub-b", "hub-a")):
        for file in (folder.parent / f"daas-hub-{name}.tar", folder / f"{name}.json"):
            file.touch()
            os.utime(file, (1_000_000 - age, 1_000_000 - age))
    images._forget_versions("hub", tmp_path / "log")
    assert {file.stem for file in folder.parent.glob("*.tar")} == {
        "daas-hub-hub-c",
        "daas-hub-hub-d",
        "daas-hub-proxy-a",
    }
    assert {file.stem for file in folder.iterdir()} == {"hub-c", "hub-d", "proxy-a"}
