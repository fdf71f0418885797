"""The launcher of pods, run by a real shell: what it tells of the image, and that it becomes the server in any case."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path

import pytest

from daas_hub.backends.kube_beside import LAUNCHER, MANIFEST_AT
from daas_hub.backends.kube_pod import SCRATCH_AT, SECRET_AT
from daas_hub.core.pods import PACKAGES_MARK, manifest_in, packages_in, spoken


@pytest.mark.parametrize("described", [True, False])
@pytest.mark.parametrize("path", ["/usr/bin:/bin", "only"])
def test_the_image_is_told_and_the_server_begins(tmp_path: Path, described: bool, path: str) -> None:
    manifest, secret = tmp_path / "manifest.json", tmp_path / "secret"
    packages = [{"kind": "deb", "name": f"package-{number}", "version": "1"} for number in range(50)]
    packages += [
        {"kind": "pypi", "name": "numpy", "version": "2.1"},
        {"kind": "cran", "name": "IRkernel", "version": "1"},
    ]
    # As images/common/describe.py writes it.
    text = json.dumps({"name": "lab", "version": "1.0", "packages": packages}, indent=1) + "\n"
    if described:
        manifest.write_text(text)
    secret.mkdir()
    (secret / "TOKEN").write_text("t0ken")
    if path == "only":
        # An image with next to nothing in it.
        (tmp_path / "bin").mkdir()
        for name in ("cat", "mkdir", "id"):
            (tmp_path / "bin" / name).symlink_to(f"/bin/{name}")
        path = str(tmp_path / "bin")
    launcher = LAUNCHER.replace(MANIFEST_AT, str(manifest))
    launcher = launcher.replace(SECRET_AT, str(secret)).replace(SCRATCH_AT, str(tmp_path / "own"))
    done = subprocess.run(
        ["/bin/sh", "-c", launcher, "launcher", str(tmp_path), "/bin/sh", "-c", 'echo "$TOKEN in $PWD"'],
        env={"PATH": path, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    assert done.stdout.endswith(f"t0ken in {tmp_path}\n")
    told = manifest_in(done.stdout)
    if described and path == "/usr/bin:/bin":
        assert told == {"name": "lab", "version": "1.0", "sha256": hashlib.sha256(text.encode()).hexdigest()}
        assert packages_in(done.stdout) == {"cran:IRkernel": "1", "numpy": "2.1"}
        assert PACKAGES_MARK not in spoken(done.stdout)
    else:
        assert told is None
        assert packages_in(done.stdout) is None
