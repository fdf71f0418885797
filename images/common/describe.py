"""Write an image's manifest and its software bill of materials (CycloneDX 1.6, JSON) while it is built.

Named are Debian's packages, the distributions of each Python, R's packages and Node's, each with its version as it lies
in the image, not as a list asked for it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

DISTRIBUTIONS = """
import importlib.metadata as m, json
print(json.dumps(sorted({(d.metadata["Name"], d.version, str(d.locate_file(""))) for d in m.distributions()})))
"""


@dataclass(frozen=True, order=True)
class Package:
    """One package: ``kind`` is the type in its package URL (deb, pypi, …), ``where`` the folder that it lies in."""

    kind: str
    name: str
    version: str
    where: str = ""

    @property
    def url(self) -> PackageURL:
        if self.kind == "npm" and "/" in self.name:
            namespace, name = self.name.split("/", 1)
            return PackageURL("npm", namespace, name, self.version)
        return PackageURL(self.kind, "debian" if self.kind == "deb" else None, self.name, self.version)


def debian(records: Path) -> Iterator[Package]:
    """What is in dpkg's records."""
    form = "${Package}\\t${Version}\\n"
    for line in _output("dpkg-query", f"--admindir={records}", "--show", "--showformat", form).splitlines():
        yield Package("deb", *line.split("\t"))


def python(interpreter: str) -> Iterator[Package]:
    """What that interpreter can import; Debian's own Python packages are among them, as they are among the deb ones."""
    for name, version, where in json.loads(_output(interpreter, "-c", DISTRIBUTIONS)):
        yield Package("pypi", name, version, where)


def r_packages(library: Path) -> Iterator[Package]:
    for file in library.glob("*/DESCRIPTION"):
        fields = dict(line.split(": ", 1) for line in file.read_text(errors="replace").splitlines() if ": " in line)
        yield Package("cran", fields["Package"], fields["Version"].strip(), str(library))


def node(folder: Path) -> Iterator[Package]:
    """What npm's own record of an installed tree names."""
    installed = json.loads((folder / "node_modules/.package-lock.json").read_text())["packages"]
    for place, package in installed.items():
        yield Package("npm", place.rpartition("node_modules/")[2], package["version"], str(folder))


def bill(image: str, version: str, packages: list[Package]) -> str:
    """The packages as CycloneDX: each once, whatever folders it lies in."""
    bom = Bom(components=[
        Component(name=package.name, version=package.version, type=ComponentType.LIBRARY, purl=package.url,
                  bom_ref=package.url.to_string())
        for package in {package.url: package for package in packages}.values()
    ])  # fmt: skip
    bom.metadata.component = Component(name=image, version=version, type=ComponentType.CONTAINER, bom_ref="image")
    return JsonV1Dot6(bom).output_as_string(indent=1)


def _output(*argv: str) -> str:
    return subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True).stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--image", required=True)
    parser.add_argument("--version", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--python", action="append", default=[])
    parser.add_argument("--r-library", type=Path, action="append", default=[])
    parser.add_argument("--node", type=Path, action="append", default=[])
    parser.add_argument("--dpkg", type=Path, default=Path("/var/lib/dpkg"))
    parser.add_argument("--program", action="append", default=[], help="NAME=VERSION of what came without a package")
    given = parser.parse_args()
    found = set(debian(given.dpkg)) | {Package("generic", *program.split("=", 1)) for program in given.program}
    for interpreter in given.python:
        found |= set(python(interpreter))
    for library in given.r_library:
        found |= set(r_packages(library))
    for folder in given.node:
        found |= set(node(folder))
    packages = sorted(found)
    given.out.mkdir(parents=True, exist_ok=True)
    manifest = {"name": given.image, "version": given.version, "packages": [asdict(package) for package in packages]}
    (given.out / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
    (given.out / "sbom.cdx.json").write_text(bill(given.image, given.version, packages) + "\n")


if __name__ == "__main__":
    main()
