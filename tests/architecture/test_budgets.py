"""Sizes that keep the code readable. A broken budget means: split, never raise the number."""

import ast
import importlib
import math
import types

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 50
P90_FUNCTION_LINES = 25
MAX_PARAMETERS = 6
MAX_PUBLIC_METHODS = 10
MAX_FAN_OUT = 8
MAX_FOLDER_DEPTH = 2
MAX_CORE_FILES = 8
WIRING = ("gateway/app/", "gateway/cli/", "gateway/config/settings.py", "gateway/dataplane/version_stack.py")
"""Files whose job is to know many: they compose."""
VOCABULARY = ("gateway.core", "runtimes.base")
"""The nouns that everybody speaks; knowing them is no dependency on a room."""


def functions(tree):
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def body_lines(function):
    """Lines from `def` to the end, without the docstring."""
    lines = function.end_lineno - function.lineno + 1
    first = function.body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        lines -= first.end_lineno - first.lineno + 1
    return lines


def parameters(function):
    arguments = function.args
    names = [a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    return [name for name in names if name not in ("self", "cls")]


def is_command(function):
    """A command line's parameters are its flags: one decorated function per command."""
    return any(isinstance(d, ast.Call) and ast.unparse(d.func).endswith(".command") for d in function.decorator_list)


def own_imports(tree):
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    own = {name for name in found if name.partition(".")[0] in ("gateway", "runtimes")}
    return {name for name in own if not name.startswith(VOCABULARY)}


def parsed(root, sources):
    return [(path.relative_to(root).as_posix(), ast.parse(path.read_text())) for path in sources]


def test_files_stay_short(root, sources):
    long = {
        p.relative_to(root).as_posix(): n for p in sources if (n := len(p.read_text().splitlines())) > MAX_FILE_LINES
    }
    assert long == {}


def test_functions_stay_short(root, sources):
    sizes = {f"{name}:{f.name}": body_lines(f) for name, tree in parsed(root, sources) for f in functions(tree)}
    assert {name: size for name, size in sizes.items() if size > MAX_FUNCTION_LINES} == {}
    ordered = sorted(sizes.values())
    assert ordered[math.ceil(len(ordered) * 0.9) - 1] <= P90_FUNCTION_LINES


def test_functions_take_few_parameters(root, sources):
    counts = {
        f"{name}:{f.name}": len(parameters(f))
        for name, tree in parsed(root, sources)
        for f in functions(tree)
        if not is_command(f)
    }
    assert {name: count for name, count in counts.items() if count > MAX_PARAMETERS} == {}


def own_public_methods(cls):
    """Methods that the class itself offers: a property is an attribute, and an override is its base's contract."""
    inherited = {name for base in cls.__mro__[1:] for name in vars(base)}
    return [
        name
        for name, value in vars(cls).items()
        if isinstance(value, types.FunctionType | classmethod | staticmethod)
        and not name.startswith("_")
        and name not in inherited
    ]


def test_classes_have_few_public_methods(root, sources):
    counts = {}
    for path in sources:
        name = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
        for cls in vars(importlib.import_module(name)).values():
            if isinstance(cls, type) and cls.__module__ == name:
                counts[f"{name}.{cls.__name__}"] = len(own_public_methods(cls))
    assert {name: count for name, count in counts.items() if count > MAX_PUBLIC_METHODS} == {}


def test_modules_know_few_others(root, sources):
    fan_out = {name: len(own_imports(tree)) for name, tree in parsed(root, sources)}
    assert {n: c for n, c in fan_out.items() if c > MAX_FAN_OUT and not n.startswith(WIRING)} == {}


def test_folders_stay_flat(root, sources):
    depths = {p.relative_to(root).as_posix(): len(p.relative_to(root).parts) - 2 for p in sources}
    assert {name: depth for name, depth in depths.items() if depth > MAX_FOLDER_DEPTH} == {}


def test_every_folder_is_a_package(root, sources):
    assert [str(p.parent.relative_to(root)) for p in sources if not (p.parent / "__init__.py").is_file()] == []


def test_core_stays_a_handful_of_nouns(root):
    assert len(list((root / "gateway/core").glob("*.py"))) <= MAX_CORE_FILES
