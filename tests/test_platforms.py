"""Nothing in the package needs what only POSIX systems have: it is looked up, and there is another way."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "fantasytalking"
SOURCES = sorted(PACKAGE.rglob("*.py"))

POSIX_MODULES = {"fcntl", "grp", "posix", "pty", "pwd", "readline", "resource", "syslog", "termios", "tty"}
POSIX_NAMES = {
    "os": {
        *(
            "chown",
            "chroot",
            "fork",
            "forkpty",
            "getegid",
            "geteuid",
            "getgid",
            "getloadavg",
            "getpgid",
            "getpriority",
            "getuid",
        ),
        *(
            "killpg",
            "lchown",
            "mkfifo",
            "nice",
            "O_CLOEXEC",
            "O_DIRECTORY",
            "posix_fadvise",
            "posix_spawn",
            "sched_getaffinity",
        ),
        *("setpgid", "setpriority", "setsid", "statvfs", "sysconf", "sysconf_names", "uname", "wait", "waitpid"),
    },
    "signal": {
        "SIGALRM",
        "SIGCHLD",
        "SIGHUP",
        "SIGKILL",
        "SIGPIPE",
        "SIGQUIT",
        "SIGUSR1",
        "SIGUSR2",
        "alarm",
        "pause",
        "setitimer",
    },
    "time": {"tzset"},
}
POSIX_ARGUMENTS = {"preexec_fn", "start_new_session", "process_group", "umask"}


def is_guard(node: ast.AST) -> bool:
    """Whether a condition or an `except` asks about the system."""
    return any(word in ast.dump(node) for word in ("hasattr", "'os'), attr='name'", "attr='platform'", "sysconf_names"))


def guarded(tree: ast.AST) -> set[ast.AST]:
    """Nodes below an `if` about the system, or in a `try` that catches what is missing."""
    inside: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If | ast.IfExp) and is_guard(node.test):
            inside.update(ast.walk(node))
        if isinstance(node, ast.Try) and any(
            handler.type is not None
            and ("ImportError" in ast.dump(handler.type) or "AttributeError" in ast.dump(handler.type))
            for handler in node.handlers
        ):
            inside.update(inner for statement in node.body for inner in ast.walk(statement))
    return inside


def uses(path: Path) -> Iterator[tuple[int, str]]:
    """Line and name of each thing that only POSIX systems have and that a file uses unconditionally."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    safe = guarded(tree)
    for node in ast.walk(tree):
        if node in safe:
            continue
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names if alias.name in POSIX_MODULES)
        elif isinstance(node, ast.ImportFrom):
            if node.module in POSIX_MODULES:
                yield node.lineno, node.module
            names = POSIX_NAMES.get(node.module or "", set())
            yield from ((node.lineno, alias.name) for alias in node.names if alias.name in names)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.attr in POSIX_NAMES.get(node.value.id, ()):
                yield node.lineno, f"{node.value.id}.{node.attr}"
        elif isinstance(node, ast.keyword) and node.arg in POSIX_ARGUMENTS:
            yield node.value.lineno, node.arg
        elif isinstance(node, ast.Constant) and node.value in ("fork", "forkserver"):
            yield node.lineno, node.value


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nothing_posix_is_needed(path: Path) -> None:
    assert list(uses(path)) == []


def test_processes_are_started_by_spawn_alone() -> None:
    """The one way that every system has; its context is made in one place."""
    found = []
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            owner = getattr(node.func.value, "id", "") if isinstance(node.func, ast.Attribute) else ""
            pool = name == "ProcessPoolExecutor" and "spawning" not in ast.dump(node)
            bare = owner in ("multiprocessing", "mp") and name in (
                "Process",
                "Pool",
                "Queue",
                "Pipe",
                "Manager",
                "set_start_method",
            )
            if pool or bare or (name == "get_context" and ast.unparse(node) != "get_context('spawn')"):
                found.append(f"{path.relative_to(PACKAGE)}:{node.lineno}: {ast.unparse(node)}")
    assert found == []


def paths_in(path: Path) -> Iterator[tuple[int, str]]:
    """Absolute paths of one kind of system in a file, but for docstrings and what is looked up before it is used."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if not isinstance(node, ast.Constant):
            continue
        text = node.value if isinstance(node.value, str) else ""
        if text.startswith(("/proc/", "/dev/", "/tmp", "/usr/", "/etc/", "/sys/", "/var/", "/home/", "C:\\")):
            yield node.lineno, text


LOOKED_UP = {"/proc/cpuinfo", "/proc/sys/kernel/random/boot_id", "/proc/self/ns/pid"}
"""Paths that are read where they exist; tests below block them."""


def test_no_path_of_one_system_is_written_down() -> None:
    found = {
        (str(path.relative_to(PACKAGE)), text)
        for path in SOURCES
        for _, text in paths_in(path)
        if text not in LOOKED_UP
    }
    assert found == set()


def test_text_is_read_and_written_in_one_encoding() -> None:
    """Python takes the encoding of the system, which on Windows is not UTF-8, where none is named."""
    bare = []
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            named = any(keyword.arg in ("encoding", "mode") for keyword in node.keywords)
            texts = [one.value for one in node.args if isinstance(one, ast.Constant) and isinstance(one.value, str)]
            is_path = isinstance(node.func, ast.Attribute) and not isinstance(node.func.value, ast.Name | ast.Constant)
            is_other = isinstance(node.func, ast.Attribute) and getattr(node.func.value, "id", "") in (
                "av",
                "tarfile",
                "Image",
            )
            opens = name == "open" and not is_other and any(text.strip("+t") in ("r", "w", "a", "x") for text in texts)
            opens |= (
                name == "open"
                and isinstance(node.func, ast.Attribute)
                and not node.args
                and not node.keywords
                and is_path
            )
            if (
                (name == "read_text" and not named and not node.args)
                or (name == "write_text" and not named and len(node.args) < 2)
                or (opens and not named)
            ):
                bare.append(f"{path.relative_to(PACKAGE)}:{node.lineno}")
    assert bare == []


def test_names_differ_in_more_than_case() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    names = listed.stdout.splitlines() if listed.returncode == 0 else []
    names = names or [str(path.relative_to(ROOT)) for path in PACKAGE.rglob("*")]
    parts = {str(Path(*Path(name).parts[:depth])) for name in names for depth in range(1, len(Path(name).parts) + 1)}
    assert [name for name, count in Counter(part.casefold() for part in parts).items() if count > 1] == []
    reserved = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10))}
    assert not [name for name in names for part in Path(name).parts if part.split(".")[0].casefold() in reserved]
    assert not [
        name for name in names if set(name) & set('<>:"|?*\\') or any(p.endswith((" ", ".")) for p in Path(name).parts)
    ]


WITHOUT_POSIX = """
import builtins, multiprocessing, sys, types
MODULES, NAMES = {modules!r}, {names!r}

class Windowsish(types.ModuleType):
    def __init__(self, module):
        super().__init__(module.__name__)
        self.__dict__["_module"] = module
    def __getattr__(self, name):
        if name in NAMES.get(self._module.__name__, ()):
            raise AttributeError(name)
        return getattr(self._module, name)

real = builtins.__import__
def without_posix(name, globals=None, locals=None, fromlist=(), level=0):
    # What is in the way of our own files only: Python's and the frameworks' look for POSIX themselves.
    if not (globals or {{}}).get("__name__", "").startswith("fantasytalking"):
        return real(name, globals, locals, fromlist, level)
    if name in MODULES:
        raise ImportError(f"No module named {{name!r}}")
    module = real(name, globals, locals, fromlist, level)
    return Windowsish(module) if name in NAMES else module
builtins.__import__ = without_posix

contexts = multiprocessing.get_context
def only_spawn(method=None):
    assert method in (None, "spawn"), method
    return contexts("spawn")
multiprocessing.get_context = only_spawn
"""
"""A process whose files of this package find no POSIX, and in which spawn is the only way to start another."""

GENERATED = """
import importlib, pathlib, sys
from fantasytalking.cli.__main__ import main
assert main({words!r}) == 0
package = pathlib.Path({package!r})
# nodes are imported by a ComfyUI
sys.path.append({comfyui!r})
for path in sorted(package.rglob("*.py")):
    name = ".".join(path.relative_to(package.parent).with_suffix("").parts).removesuffix(".__init__")
    if not name.endswith("__main__"):
        importlib.import_module(name)
"""

OWNED = """
# Windows' lock of a byte, by the kernel's lock of a byte on this system
import fcntl, os, psutil, struct, subprocess
def locking(number, how, count):
    # of the open file, as there: one of the process would go when another handle of the file is closed
    try:
        fcntl.fcntl(number, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_CUR, 0, count, 0))
    except BlockingIOError as error:
        raise PermissionError(13, "Permission denied") from error
sys.modules["msvcrt"] = types.SimpleNamespace(locking=locking, LK_NBLCK=2)
from pathlib import Path
from fantasytalking.errors import OutputError
from fantasytalking.system import file_locks
from fantasytalking.system.folder_owner import owned
assert file_locks.fcntl is None
folder = Path({folder!r})
if len(sys.argv) > 1:
    try:
        with owned(folder, "trying"):
            print("taken")
    except OutputError as error:
        print(error)
else:
    with owned(folder, "working in"):
        (folder / "kept").write_text("")
        print(subprocess.run([*{again!r}, "other"], capture_output=True, text=True).stdout)
    print(subprocess.run([*{again!r}, "other"], capture_output=True, text=True).stdout, sorted(p.name for p in folder.iterdir()))
"""


def without_posix(code: str) -> str:
    """The code, behind what takes POSIX away."""
    return WITHOUT_POSIX.format(modules=POSIX_MODULES, names=POSIX_NAMES) + code


def run(path: Path, code: str) -> str:
    """Run code in a process of its own, and give what it printed."""
    path.write_text(without_posix(code), encoding="utf-8")
    done = subprocess.run([sys.executable, "-W", "ignore", str(path)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_a_video_is_generated_and_every_module_imported_without_posix(tmp_path: Path) -> None:
    example = PACKAGE / "models" / "embedded" / "example"
    words = ["generate", "--image", str(example / "portrait.png"), "--audio", str(example / "speech.wav")]
    words += ["--output", str(tmp_path / "out.mp4"), "--max-seconds", "0.3", "--steps", "1", "--longest-side", "128"]
    run(
        tmp_path / "generated.py",
        GENERATED.format(
            words=words, package=str(PACKAGE), comfyui=str(ROOT / "tests" / "integrations" / "comfyui_double")
        ),
    )
    assert (tmp_path / "out.mp4").stat().st_size > 1000


@pytest.mark.skipif(sys.platform != "linux", reason="stands for Windows' locks by those of Linux")
def test_a_folder_has_one_owner_without_posix(tmp_path: Path) -> None:
    file, folder = tmp_path / "owned.py", tmp_path / "folder"
    printed = run(file, OWNED.format(folder=str(folder), again=[sys.executable, "-W", "ignore", str(file)]))
    first, second = printed.strip().split("\n\n")
    assert first.startswith("Another process is working in") and second == "taken\n ['kept']"
