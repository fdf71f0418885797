"""pip's own wheel where Python came without ensurepip: from the configured index, else from the distribution.

Runs before anything is installed, as a file: only the standard library, and no import of daas_hub.
"""

from __future__ import annotations

import base64
import configparser
import hashlib
import os
import re
import shutil
import ssl
import subprocess
import urllib.parse
import urllib.request
from html import unescape
from pathlib import Path


class NoPip(Exception):
    """Raised when no pip can be had; the text says what to do."""


def locked_pip(lock: Path) -> tuple[str, set[str]]:
    """pip's version in a lock file, and the SHA-256 sums that it may have."""
    found = re.search(r"^pip==(\S+) \\\n((?:\s+--hash=sha256:\w+[ \\]*\n?)+)", lock.read_text(), re.MULTILINE)
    if not found:
        raise NoPip(f"{lock} does not pin pip: run scripts/lock.")
    return found[1], set(re.findall(r"sha256:(\w+)", found[2]))


def configured_index() -> str | None:
    """The index that pip would use: ``PIP_INDEX_URL``, else ``index-url`` of pip's configuration files."""
    if os.environ.get("PIP_INDEX_URL"):
        return os.environ["PIP_INDEX_URL"]
    return _pip_setting("index-url")


def _pip_setting(key: str) -> str | None:
    home = Path.home()
    config_home = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
    files = [os.environ.get("PIP_CONFIG_FILE"), config_home / "pip/pip.conf", home / ".pip/pip.conf"]
    files += [Path(d) / "pip/pip.conf" for d in os.environ.get("XDG_CONFIG_DIRS", "/etc/xdg").split(":")]
    files.append("/etc/pip.conf")
    for file in files:
        parser = configparser.RawConfigParser()
        if file and parser.read(file) and parser.has_option("global", key):
            return parser.get("global", key).strip()
    return None


def _open(url: str) -> bytes:
    """GET with the certificates that pip would trust, and the index's user name and password."""
    bundles = [os.environ.get(n) for n in ("PIP_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")]
    cafile = next((b for b in [*bundles, _pip_setting("cert")] if b and Path(b).is_file()), None)
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("https", "http"):
        raise NoPip(f"The package index must be an http or https address, not {parts.scheme}.")
    request = urllib.request.Request(parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl())  # noqa: S310
    if parts.username:
        pair = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
        request.add_header("Authorization", "Basic " + base64.b64encode(pair.encode()).decode())
    context = ssl.create_default_context(cafile=cafile) if parts.scheme == "https" else None
    with urllib.request.urlopen(request, timeout=60, context=context) as answer:  # noqa: S310
        return bytes(answer.read())


def _from_index(index: str, version: str, sums: set[str], folder: Path) -> Path:
    name = f"pip-{version}-py3-none-any.whl"
    page_url = index.rstrip("/") + "/pip/"
    page = _open(page_url).decode("utf-8", "replace")
    links = [unescape(link) for link in re.findall(r"""href=["']([^"']+)["']""", page)]
    link = next((u for u in links if urllib.parse.urlsplit(u).path.endswith("/" + name)), None)
    if link is None:
        raise NoPip(f"The package index has no {name}.")
    # A relative link has no credentials of its own: it inherits the index's.
    content = _open(urllib.parse.urldefrag(urllib.parse.urljoin(page_url, link)).url)
    if hashlib.sha256(content).hexdigest() not in sums:
        raise NoPip(f"{name} from the package index is not the file that the lock names: nothing was installed.")
    (folder / name).write_bytes(content)
    return folder / name


def _from_debian(folder: Path) -> Path | None:
    """Debian keeps ensurepip's wheels in a package: taken with apt's signatures, unpacked without being root."""
    there = sorted(Path("/usr/share/python-wheels").glob("pip-*.whl"))
    if there:
        return there[-1]
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        return None
    state = folder / "apt"
    (state / "lists/partial").mkdir(parents=True)
    (state / "archives/partial").mkdir(parents=True)
    options = [
        "-qq",
        "-o",
        f"Dir::State::Lists={state}/lists",
        "-o",
        f"Dir::Cache={state}",
        "-o",
        "APT::Sandbox::User=",
    ]
    for words in (["update"], ["download", "python3-pip-whl"]):
        subprocess.run(["apt-get", *options, *words], cwd=folder, capture_output=True, timeout=300, check=False)
    for package in folder.glob("python3-pip-whl_*.deb"):
        subprocess.run(["dpkg-deb", "-x", str(package), str(folder / "deb")], check=True, timeout=60)
    return next((folder / "deb").glob("usr/share/python-wheels/pip-*.whl"), None)


def pip_wheel(lock: Path, folder: Path) -> Path:
    """A wheel of pip in ``folder``. Raises NoPip with what to do where none can be had."""
    version, sums = locked_pip(lock)
    index = configured_index()
    problem = "no package index is configured (PIP_INDEX_URL, or index-url in pip.conf)"
    if index:
        try:
            return _from_index(index, version, sums, folder)
        except OSError as error:
            problem = f"the configured package index cannot be asked ({error})"
    wheel = _from_debian(folder)
    if wheel:
        return wheel
    raise NoPip(
        f"This Python has no ensurepip, and {problem}. Install your distribution's python3-venv, or set "
        "PIP_INDEX_URL to your package index (its address ends in /simple), and start again."
    )
