"""The repository holds no traces of the machines it was written on, no registries and no large binaries."""

import re
import subprocess
import sys
from urllib.parse import urlsplit

MAX_BYTES = 1_000_000
MACHINE_PATHS = re.compile(r"(?<![\w.:/$}-])/(?:root|home/\w+|Users/\w+|work|farm|opt/\w+|mnt/\w+|tmp/\w+)(?:/|\b)")
REGISTRIES = re.compile(r"pypi\.org|pythonhosted\.org|https?://\S*/simple\b|index-url\s*=", re.IGNORECASE)
HERE = "tests/architecture/test_no_leaks.py"


def texts(root, tracked):
    for name in tracked:
        content = (root / name).read_bytes()
        if name != HERE and b"\0" not in content:
            yield name, content.decode()


def configured_hosts():
    """Host names of the package indexes that this machine's pip uses."""
    listing = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    ).stdout
    urls = re.findall(r"https?://[^\s'\"]+", listing)
    return {urlsplit(url).hostname for url in urls} - {None, "localhost", "127.0.0.1"}


def test_no_machine_paths(root, tracked):
    found = {
        f"{name}:{number}": line.strip()
        for name, text in texts(root, tracked)
        for number, line in enumerate(text.splitlines(), 1)
        if MACHINE_PATHS.search(line)
    }
    assert found == {}


def test_no_registry_hosts(root, tracked):
    hosts = configured_hosts()
    found = [
        name for name, text in texts(root, tracked) if REGISTRIES.search(text) or any(host in text for host in hosts)
    ]
    assert found == []


def test_no_large_or_binary_files(root, tracked):
    large = [name for name in tracked if (root / name).stat().st_size > MAX_BYTES]
    binary = [name for name in tracked if b"\0" in (root / name).read_bytes()[:8192]]
    assert (large, binary) == ([], [])
