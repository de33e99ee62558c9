"""Imports point down only, no module is a drawer for leftovers, and the package itself stays light."""

import ast
import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "src" / "fantasytalking"

# From top to bottom; a part may import from its own row and from the rows below it.
ROWS = (
    {"cli"},
    {"serving", "integrations"},
    {"training", "evaluation", "generation"},
    {"data"},
    {"pipeline"},
    {"acceleration"},
    {"transformer", "conditioning", "guidance", "checkpoints", "autoencoder", "perception", "models", "verification"},
    {"media", "reporting"},
    {"provenance"},
    {"geometry", "flow", "system", "errors"},
)
ROW = {part: number for number, row in enumerate(ROWS) for part in row}


def part_of(path: Path) -> str:
    """The folder or module directly below the package that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_parts(path: Path) -> set[str]:
    """Parts of the package that a source file imports from, wherever in the file."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.update([f"{node.module}.{alias.name}" for alias in node.names] + [node.module or ""])
    names = (name.split(".") for name in found if name.startswith("fantasytalking."))
    return {name[1] for name in names if name[1] in ROW}


def dotted(path: Path) -> str:
    """The name under which a file is imported."""
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


def imported_files(path: Path, files: set[str]) -> set[str]:
    """Which of some files a source file imports from, wherever in the file, `TYPE_CHECKING` blocks included."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names} & files
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules = {f"{node.module}.{alias.name}" for alias in node.names} & files
            # a package's own file counts only for the names that are not its modules
            if len(modules) < len(node.names):
                modules |= {node.module} & files
            found |= modules
    return found


def circles(edges: dict[str, set[str]]) -> list[list[str]]:
    """Strongly connected components (Tarjan 1972), those of a single file included."""
    order: dict[str, int] = {}
    lowest: dict[str, int] = {}
    waiting: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        order[name] = lowest[name] = len(order)
        waiting.append(name)
        for other in sorted(edges[name]):
            if other not in order:
                visit(other)
                lowest[name] = min(lowest[name], lowest[other])
            elif other in waiting:
                lowest[name] = min(lowest[name], order[other])
        if lowest[name] == order[name]:
            circle = waiting[waiting.index(name) :]
            del waiting[waiting.index(name) :]
            found.append(circle)

    for name in edges:
        if name not in order:
            visit(name)
    return found


def sources() -> list[Path]:
    return [path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE or path.name != "__init__.py"]


def test_every_part_has_its_row() -> None:
    assert {part_of(path) for path in sources()} <= set(ROW)


def test_imports_point_down_only() -> None:
    for path in sources():
        own = part_of(path)
        upward = {part for part in imported_parts(path) if ROW[part] < ROW[own]}
        assert not upward, f"{path.relative_to(PACKAGE)} imports from {sorted(upward)}, which is above it"


def test_no_two_parts_import_each_other() -> None:
    edges = {(part_of(path), part) for path in sources() for part in imported_parts(path) if part != part_of(path)}
    assert not {(a, b) for a, b in edges if (b, a) in edges}


def test_training_and_data_never_import_evaluation() -> None:
    for part in ("training", "data"):
        for path in (PACKAGE / part).rglob("*.py"):
            assert "evaluation" not in imported_parts(path), path.relative_to(PACKAGE)


def test_no_two_files_import_each_other() -> None:
    names = {path: dotted(path) for path in PACKAGE.rglob("*.py")}
    edges = {name: imported_files(path, set(names.values())) - {name} for path, name in names.items()}
    assert not [circle for circle in circles(edges) if len(circle) > 1]


def test_no_module_is_called_utils() -> None:
    assert not [path for path in PACKAGE.rglob("*.py") if path.stem in {"utils", "util", "helpers", "common", "misc"}]


def test_importing_the_package_loads_no_framework() -> None:
    heavy = "torch, diffusers, transformers, cv2, av, ai_edge_litert, c2pa, cryptography"
    code = f"import sys, fantasytalking; print(*[name for name in '{heavy}'.split(', ') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
