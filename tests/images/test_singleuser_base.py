"""JupyterLab from our own image, in a pod: any uid, a read-only root, what a user installs and what she breaks."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable

import pytest

from tests.images.lab_site import LabSite, wheel
from tests.servers.kube_place import RESTRICTED
from tests.servers.kubernetes.cluster import Cluster
from tests.servers.kubernetes.images import Image
from tests.waiting import until

pytestmark = [pytest.mark.needs("kube_rig", "images", "slapd", "root"), pytest.mark.timeout(240)]
OWN = ".local/share/daas/singleuser-base-1.0"


@pytest.fixture
async def site(kube_rig: Cluster, project_image: Callable[[str], Image]) -> AsyncIterator[LabSite]:
    image = project_image("singleuser-base")
    with kube_rig.namespace(**RESTRICTED) as namespace:
        site = LabSite(kube_rig, namespace, image)
        try:
            await site.start()
            await site.sign_in("ada")
            yield site
        finally:
            await site.stop()


async def test_what_a_user_installs_without_root_survives_a_restart(site: LabSite) -> None:
    lab = await site.lab()
    assert (await lab.get("api"))["version"]
    pod = await site.pod()
    assert pod["spec"]["containers"][0]["securityContext"]["readOnlyRootFilesystem"] is True
    kernel = await lab.new_kernel()
    uid = await lab.run(kernel, "import os, sys; print(os.getuid(), sys.executable)")
    assert uid.split() == [str(site.person("ada").uid), "/usr/bin/python3"]
    refused = await lab.run(kernel, "open('/opt/lab/new', 'w')")
    assert "Read-only file system" in refused

    await site.put("tiny_tool-1.0-py3-none-any.whl", wheel("tiny_tool", "def main():\n    print('the tool speaks')\n"))
    said = await lab.run(kernel, "!cd && pip install --no-index ./tiny_tool-1.0-py3-none-any.whl", within_s=60)
    assert "Successfully installed tiny-tool-1.0" in said
    assert await lab.run(kernel, "import tiny_tool; print(tiny_tool.__file__)") == (
        f"{site.home('ada')}/{OWN}/python/lib/python3.11/site-packages/tiny_tool.py\n"
    )
    await site.stop_lab()

    lab = await site.lab()
    kernel = await lab.new_kernel()
    assert await lab.run(kernel, "import tiny_tool; tiny_tool.main()") == "the tool speaks\n"
    assert await lab.run(kernel, "!bash -lc tiny_tool-says") == "the tool speaks\r\n"
    # An environment of her own is not in the way of pip's settings, nor they in its.
    made = await lab.run(
        kernel,
        "!cd && python -m venv own && own/bin/pip install --no-index ./tiny_tool-1.0-py3-none-any.whl",
        within_s=90,
    )
    assert "Successfully installed tiny-tool-1.0" in made


async def test_a_launch_remembers_the_image_and_what_it_says_of_itself(site: LabSite) -> None:
    await site.lab()
    (row,) = site.launches()
    ledger = site.ledger()
    try:
        await until(lambda: ledger.kept(row.id).software is not None, what="what it is made of is written down")
        kept = ledger.kept(row.id)
    finally:
        ledger.close()
    assert kept.software is not None
    assert kept.software["image"] == site.image
    (status,) = (await site.pod())["status"]["containerStatuses"]
    assert kept.image_digest
    assert status["imageID"].endswith(kept.image_digest)
    name = (await site.pod())["metadata"]["name"]
    said = (await site.inside(name, "sha256sum", "/usr/local/share/daas/manifest.json")).split()[0]
    assert kept.software["manifest"] == {"name": "singleuser-base", "version": "1.0", "sha256": said}
    listed = json.loads(await site.inside(name, "cat", "/usr/local/share/daas/manifest.json"))["packages"]
    python = {each["name"]: each["version"] for each in listed if each["kind"] == "pypi"}
    assert kept.software["packages"].items() >= python.items()
    assert {"jupyterlab", "jupyterhub", "ipykernel"} <= python.keys()


async def test_a_broken_package_of_the_user_stops_no_lab_and_no_safe_kernel(site: LabSite) -> None:
    await site.lab()
    broken = b"raise RuntimeError('broken by its user')\n"
    for name in ("traitlets", "tornado", "jupyterhub", "jupyterlab"):
        await site.put(f"{OWN}/python/lib/python3.11/site-packages/{name}/__init__.py", broken)
    for program in ("jupyterhub-singleuser", "jupyter-labhub", "python3"):
        await site.put(f"{OWN}/python/bin/{program}", b"#!/bin/sh\nexit 9\n")
    await site.put(f"{OWN}/python/share/jupyter/labextensions/broken/package.json", b"{")
    name = (await site.pod())["metadata"]["name"]
    # A home that cannot be written keeps nothing from starting either.
    await site.inside(name, "env", "HOME=/proc/nowhere", "/usr/local/lib/daas/start", "true")
    await site.inside(name, "sh", "-c", f"chmod +x {site.home('ada')}/{OWN}/python/bin/*")
    with pytest.raises(Exception, match="broken by its user"):
        await site.out_of("python3", "-c", "import traitlets")
    await site.stop_lab()

    lab = await site.lab()
    assert (await lab.get("api/kernelspecs"))["default"] == "python3"
    assert "jupyter-config-data" in await lab.get("lab")
    await site.stop_lab()

    lab = await site.lab("safe")
    kernel = await lab.new_kernel()
    where = await lab.run(kernel, "import traitlets; print(traitlets.__file__)")
    assert where.startswith("/usr/local/lib/python3.11/")
    kept = await lab.run(
        kernel, f"!env -u PYTHONNOUSERSITE ls {site.home('ada')}/{OWN}/python/lib/python3.11/site-packages"
    )
    assert "traitlets" in kept
