"""The documents are true to the tree: what they name exists, and what exists is named."""

import ast
import re

import pytest

DOCUMENT = "ARCHITECTURE.md"
CODE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)#\s]+)")
SOURCE = re.compile(r"(?:gateway|runtimes)/[\w/]*(?:\.py)?")


@pytest.fixture(scope="module")
def document(root):
    return (root / DOCUMENT).read_text()


def module_rows(document):
    """The rows of the module table: (paths in the first cell, names in the last)."""
    for line in document.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        paths = [code for code in CODE.findall(cells[0]) if SOURCE.fullmatch(code)]
        if line.startswith("|") and len(cells) >= 3 and paths:
            yield paths, [code for code in CODE.findall(cells[-1]) if not SOURCE.fullmatch(code)]


def defined(path):
    """Names that a module (or the modules of a folder) defines, methods as Class.method."""
    names = set()
    for source in [path] if path.is_file() else path.glob("*.py"):
        for node in ast.parse(source.read_text()).body:
            if isinstance(node, ast.ClassDef):
                names.add(node.name)
                names |= {
                    f"{node.name}.{item.name}"
                    for item in node.body
                    if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef)
                }
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                names.add(node.name)
            elif isinstance(node, ast.Assign):
                names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                names.add(node.target.id)
    return names


def test_every_path_that_is_named_exists(root, document):
    paths = {code for code in CODE.findall(document) if SOURCE.fullmatch(code)}
    assert paths
    assert [path for path in sorted(paths) if not (root / path).exists()] == []


def test_every_name_in_the_module_table_is_defined_there(root, document):
    missing = []
    for paths, names in module_rows(document):
        there = set().union(*(defined(root / path) for path in paths))
        missing += [f"{paths[0]}: {name}" for name in names if name.rstrip("()") not in there]
    assert missing == []


def test_every_room_and_runtime_is_named(root, document):
    rooms = [f"gateway/{path.name}/" for path in (root / "gateway").iterdir() if (path / "__init__.py").is_file()]
    runtimes = [f"runtimes/{path.name}" for path in (root / "runtimes").glob("*.py")]
    assert [name for name in sorted(rooms + runtimes) if f"`{name}`" not in document] == []


def test_every_module_of_a_room_is_in_the_table(root, document, sources):
    named = {path for paths, _ in module_rows(document) for path in paths}
    rooms = {path for path in named if path.endswith("/")}
    files = [path.relative_to(root).as_posix() for path in sources]
    expected = [name for name in files if not name.endswith("/__init__.py")]
    assert [n for n in expected if n not in named and f"{n.rpartition('/')[0]}/" not in rooms] == []


def test_links_between_documents_lead_somewhere(root, tracked):
    broken = []
    for name in tracked:
        if name.endswith(".md") and not name.startswith("model_repo/templates/"):
            folder = (root / name).parent
            broken += [
                f"{name}: {link}" for link in LINK.findall((root / name).read_text()) if not (folder / link).exists()
            ]
    assert broken == []
