"""The pages of docs/ are true: every bash and python block runs against a gateway, and shows what is printed.

A block tagged json or text right after a bash or python block is that block's output. In both `...` stands for
whatever may differ: in text anything, in JSON a value, the rest of a list, or further keys; numbers are compared
to four digits. Blocks of one language on one page share one shell or one interpreter.
"""

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import nbformat
import pytest
from nbclient import NotebookClient

pytestmark = pytest.mark.xdist_group("demo")

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").glob("*.md"))
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LANGUAGES = {
    "bash": (["bash", "-euo", "pipefail", "-s"], "echo; echo @@@"),
    "python": ([sys.executable, "-"], "print(); print('@@@', flush=True)"),
}


class Block(NamedTuple):
    language: str
    code: str
    shown: tuple[str, str] | None  # (json or text, what the page shows)


def blocks(page):
    found = [(match[1], match[2]) for match in FENCE.finditer(page.read_text())]
    unknown = {language for language, _ in found} - {*LANGUAGES, "json", "text"}
    assert not unknown, f"{page.name}: blocks tagged {unknown} are neither run nor compared"
    made = []
    for position, (language, code) in enumerate(found):
        if language in LANGUAGES:
            after = found[position + 1] if position + 1 < len(found) else ("", "")
            made.append(Block(language, code, after if after[0] in ("json", "text") else None))
    return made


def run(code, language, environment):
    """Run all blocks of one language; returns what each printed."""
    command, marker = LANGUAGES[language]
    script = "".join(f"{block}\n{marker}\n" for block in code)
    done = subprocess.run(
        command, input=script, capture_output=True, text=True, timeout=100, env=environment, cwd=ROOT, check=False
    )
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout.split("\n@@@\n")[: len(code)]


def fits(shown, got):
    """Compare JSON values by the rules above."""
    if shown == "...":
        return True
    if isinstance(shown, dict) and isinstance(got, dict):
        wanted = {key: value for key, value in shown.items() if key != "..."}
        same_keys = wanted.keys() <= got.keys() if "..." in shown else wanted.keys() == got.keys()
        return same_keys and all(fits(value, got[key]) for key, value in wanted.items())
    if isinstance(shown, list) and isinstance(got, list):
        if shown and shown[-1] == "...":
            shown = shown[:-1]
            got = got[: len(shown)]
        return len(shown) == len(got) and all(map(fits, shown, got))
    if isinstance(shown, float) and isinstance(got, (int, float)):
        return math.isclose(shown, got, rel_tol=1e-3, abs_tol=1e-4)
    return shown == got


def text_fits(shown, got):
    def normal(text):
        return "\n".join(" ".join(line.split()) for line in text.strip().splitlines())

    pattern = ".*?".join(re.escape(part) for part in normal(shown).split("..."))
    return re.fullmatch(pattern, normal(got), re.DOTALL) is not None


@pytest.fixture
def environment(demo):
    """What a reader has: the addresses, and the commands of the virtual environment."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}"
    return {**kept, "HTTP": demo.http, "GRPC": demo.grpc, "ADMIN": demo.admin, "PATH": path, "PYTHONPATH": str(ROOT)}


def test_the_four_pages_are_here():
    names = {path.name for path in (ROOT / "docs").glob("*.*")}
    assert {"curl.md", "tritonclient.md", "notebook.ipynb", "coming-from-triton.md"} <= names


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_of_a_page_runs_and_prints_what_the_page_shows(page, environment):
    found = blocks(page)
    for language in LANGUAGES:
        mine = [block for block in found if block.language == language]
        outputs = run([block.code for block in mine], language, environment) if mine else []
        assert len(outputs) == len(mine)
        for block, output in zip(mine, outputs, strict=True):
            if block.shown is None:
                continue
            kind, shown = block.shown
            if kind == "json":
                assert fits(json.loads(shown), json.loads(output)), f"{block.code}\nprinted\n{output}"
            else:
                assert text_fits(shown, output), f"{block.code}\nprinted\n{output}"


def test_the_notebook_runs(environment, monkeypatch):
    for name in ("HTTP", "GRPC", "PATH", "PYTHONPATH"):
        monkeypatch.setenv(name, environment[name])
    notebook = nbformat.read(ROOT / "docs/notebook.ipynb", as_version=4)
    nbformat.validate(notebook)
    shown = [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]
    assert shown == [[] for _ in shown], "outputs are not committed: they would go stale"
    NotebookClient(notebook, timeout=60, kernel_name="python3", resources={"metadata": {"path": ROOT}}).execute()
    printed = "".join(
        output.get("text", "") + str(output.get("data", {}).get("text/plain", ""))
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
    )
    for word in ("tabular_cancer", "benign", "python", "the versions agree on"):
        assert word in printed, printed


def test_the_wildcards_hide_no_difference_that_matters():
    assert fits({"a": [1, "..."], "...": 0}, {"a": [1, 2, 3], "b": 4})
    assert not fits({"a": [1, 2]}, {"a": [1, 2, 3]})
    assert not fits({"a": 1}, {"a": 1, "b": 2})
    assert fits([0.96], [0.959999])
    assert not fits([0.96], [0.95])
    assert text_fits("HTTP/1.1 200 ...\n\nend", "HTTP/1.1  200 OK\r\nx: y\n\nend\n")
    assert not text_fits("one", "one two")
