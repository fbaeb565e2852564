"""The rules of the house: who may import whom, sizes, no cycles, no grab-bag files."""

import ast
import importlib
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "vitascope"
FILES = sorted(SOURCE.rglob("*.py"))

MAY_IMPORT = {
    "structures": set(),
    "video": {"structures"},
    "nn": {"structures"},
    "losses": {"structures"},
    "metrics": {"structures"},
    "store": {"structures"},
    "datasets": {"structures", "video"},
    "methods.base": {"structures"},
    "methods": {"methods.base", "structures", "video", "nn", "losses"},
    "engine": {"methods.base", "structures", "store"},
    "evaluation": {"engine", "methods.base", "metrics", "datasets", "store", "structures"},
    "cli": {"api", "store", "structures"},
    "ui": {"api", "store", "structures"},
}
MAY_IMPORT["api"] = set(MAY_IMPORT) - {"cli", "ui"}


def name_of(path: Path) -> str:
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str:
    """The room of a module, e.g. `vitascope.video.reader` -> `video`; each method is a room of its own."""
    parts = module.split(".")[1:]
    if not parts:
        return "vitascope"
    if parts[0] == "methods":
        return "methods.base" if parts[1:2] == ["base"] else ".".join(parts[:2])
    return parts[0]


def imports_of(path: Path, top_level_only: bool = False) -> list[tuple[int, str]]:
    """Lines and dotted names of the vitascope modules that a file imports, `from x import y` resolved to the module."""
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    known = {name_of(file) for file in FILES}
    found = []
    for node in nodes:
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import; write the full name"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                found.append((node.lineno, full if full in known else node.module))
    return [(line, module) for line, module in found if module.split(".")[0] == "vitascope"]


def allowed(room: str, target: str) -> bool:
    if room == target or room == "vitascope":
        return True
    if room.startswith("methods.") and room != "methods.base":
        return target in MAY_IMPORT["methods"]
    if room == "methods":  # the one dict
        return target.startswith("methods.")
    if room == "api":
        return target.split(".")[0] in MAY_IMPORT["api"] | {"methods"}
    return target in MAY_IMPORT[room]


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_room_imports_only_what_it_may(path):
    room = room_of(name_of(path))
    wrong = [f"{path.name}:{line} imports {m}" for line, m in imports_of(path) if not allowed(room, room_of(m))]
    assert not wrong, f"{room} may import only {sorted(MAY_IMPORT.get(room, MAY_IMPORT['methods']))}: {wrong}"


def test_the_import_rule_can_fail():
    assert not allowed("video", "engine")
    assert not allowed("engine", "methods.mme")
    assert not allowed("methods.mme", "methods.hico")
    assert not allowed("methods.mme", "store")
    assert not allowed("cli", "video")


def test_there_is_no_import_cycle():
    edges = {name_of(path): {module for _, module in imports_of(path)} for path in FILES}
    state: dict[str, str] = {}

    def visit(module: str, trail: list[str]) -> None:
        assert state.get(module) != "open", f"import cycle: {' -> '.join([*trail, module])}"
        if module in state:
            return
        state[module] = "open"
        for target in edges.get(module, set()) - {module}:
            visit(target, [*trail, module])
        state[module] = "done"

    for module in edges:
        visit(module, [])


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_sizes(path):
    text = path.read_text()
    limit = {"methods/base.py": 80, "api.py": 200, "engine/train.py": 200}.get(str(path.relative_to(SOURCE)), 400)
    if path.name == "method.py":
        limit = 150
    assert text.count("\n") <= limit, f"{path}: {text.count(chr(10))} lines, at most {limit}"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            lines = node.end_lineno - node.lineno + 1
            assert lines <= 60, f"{path}:{node.lineno} {node.name}: {lines} lines, at most 60"
            assert depth(node) <= 3, f"{path}:{node.lineno} {node.name}: nested {depth(node)} deep, at most 3"


def depth(node: ast.AST) -> int:
    """How deep loops, conditions, `with` and `try` nest inside a function; an `elif` is no deeper than its `if`."""
    blocks = (ast.For, ast.While, ast.If, ast.With, ast.Try)

    def deepest(parent: ast.AST, level: int) -> int:
        worst = level
        for child in ast.iter_child_nodes(parent):
            if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)):
                continue
            is_elif = isinstance(parent, ast.If) and isinstance(child, ast.If) and child in parent.orelse
            worst = max(worst, deepest(child, level + (isinstance(child, blocks) and not is_elif)))
        return worst

    return deepest(node, 0)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_no_grab_bag_file(path):
    assert path.stem not in {"utils", "util", "helpers", "misc", "common"}


def test_package_init_files_hold_a_docstring_only():
    for path in SOURCE.rglob("__init__.py"):
        if path.parent in (SOURCE, SOURCE / "methods"):  # the public names, and the one dict of methods
            continue
        if path.parent == SOURCE / "methods" / "stm":  # users load the paper's weights from here
            assert path.read_text().count("\n") <= 6
            continue
        body = ast.parse(path.read_text()).body
        assert len(body) == 1 and isinstance(body[0], ast.Expr), f"{path} holds more than a docstring"


def test_every_method_package_has_the_same_files():
    expected = {"README.md", "config.py", "data.py", "targets.py", "model.py", "loss.py", "method.py"}
    for package in (p for p in (SOURCE / "methods").iterdir() if p.is_dir() and p.name != "__pycache__"):
        assert expected <= {file.name for file in package.iterdir()}, f"{package.name} lacks files"


def test_public_names_exist_and_are_about_fifteen():
    package = importlib.import_module("vitascope")
    assert len(package.__all__) <= 20
    for name in package.__all__:
        assert getattr(package, name) is not None


def test_nothing_unpickles_untrusted_data():
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            call, options = ast.unparse(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords}
            assert options.get("allow_pickle") != "True", f"{path}:{node.lineno}: allow_pickle"
            assert call not in ("pickle.load", "pickle.loads"), f"{path}:{node.lineno}: {call}"
            if call == "torch.load":
                assert options.get("weights_only") == "True", (
                    f"{path}:{node.lineno}: torch.load without weights_only=True"
                )
