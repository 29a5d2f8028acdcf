"""The house: which room may call which, and how large a room may grow (docs/architecture.md)."""

from __future__ import annotations

import ast
import configparser
import graphlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = {
    "colapipe": "colapipe",
    "colapipe.workflows": "workflows",
    "colapipe.interfaces": "interfaces",
    "colapipe.bids_templates": "bids_templates",
}
LINES_OF_AN_INTERFACE = 40
LINES_OF_A_WORKFLOW_FILE = 150
HEAVY = ("torch", "nipype", "bids", "pandas", "nibabel", "numpy", "scipy", "SimpleITK")
FORBIDDEN_IMPORTS = {
    "pickle": "a pickle can run code when it is read",
    "requests": "nothing is downloaded at run time",
    "urllib.request": "nothing is downloaded at run time",
    "http.client": "nothing is downloaded at run time",
}


class Import(NamedTuple):
    """One imported name: who imports it, what, on which line, and whether on import already."""

    importer: str
    target: str
    line: int
    at_import: bool


def module_name(path: Path) -> str:
    """Return the installed name of a file of the repository."""
    for package, folder in sorted(ROOMS.items(), key=lambda room: -len(room[1])):
        if path.is_relative_to(ROOT / folder):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            return ".".join((package, *parts)).removesuffix(".__init__")
    raise ValueError(f"{path} is in no room of the house")


def imports_in(source: str, importer: str, is_package: bool = False) -> Iterator[Import]:
    """Yield every module that a source text imports, relative imports resolved.

    ``from a import b`` yields ``a`` and ``a.b``, since ``b`` may be a module.
    """
    package = importer if is_package else importer.rpartition(".")[0]

    def visit(node: ast.AST, at_import: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(importer, alias.name, node.lineno, at_import)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")
                parents = parents[: len(parents) - node.level + 1]
                base = ".".join((*parents, base)).removesuffix(".")
            yield Import(importer, base, node.lineno, at_import)
            for alias in node.names:
                yield Import(importer, f"{base}.{alias.name}", node.lineno, at_import)
        inside_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            yield from visit(child, at_import and not inside_function)

    yield from visit(ast.parse(source), True)


def source_files() -> list[Path]:
    return sorted(path for folder in ROOMS.values() for path in (ROOT / folder).rglob("*.py"))


def all_imports() -> list[Import]:
    return [
        found
        for path in source_files()
        for found in imports_in(
            path.read_text(encoding="utf-8"), module_name(path), path.name == "__init__.py"
        )
    ]


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def is_library(name: str) -> bool:
    """Say whether a module is of the library, not of the rooms installed beside it."""
    return within(name, "colapipe") and not any(
        within(name, room) for room in ROOMS if room != "colapipe"
    )


def listed(offenders: list[Import]) -> str:
    return "\n".join(f"{o.importer} line {o.line} imports {o.target}" for o in offenders)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import nipype.pipeline", ("nipype.pipeline", True)),
        ("def f():\n    from nipype import Node", ("nipype", False)),
        ("class A:\n    from ..config import Settings", ("colapipe.config", True)),
        ("from . import images", ("colapipe.anatomy.images", True)),
        ("try:\n    import torch\nexcept ImportError:\n    torch = None", ("torch", True)),
    ],
)
def test_the_reader_of_imports_sees_them(source: str, expected: tuple[str, bool]) -> None:
    found = {(i.target, i.at_import) for i in imports_in(source, "colapipe.anatomy.bias")}
    assert expected in found


def room(module: str) -> str:
    """Return the room of a module: the folder or file right below ``colapipe``."""
    return module.split(".")[1]


def test_no_room_is_reached_from_a_room_that_it_needs() -> None:
    modules = {module_name(path) for path in source_files()} - {"colapipe"}
    rooms = {room(name) for name in modules}
    needs: dict[str, set[str]] = {}
    for found in all_imports():
        if "." in found.importer and found.target.startswith("colapipe."):
            pair = room(found.importer), room(found.target)
            if pair[0] != pair[1] and pair[1] in rooms:
                needs.setdefault(pair[0], set()).add(pair[1])
    order = list(graphlib.TopologicalSorter(needs).static_order())  # raises CycleError
    assert order.index("cli") == len(order) - 1
    assert {"coladiff", "errors", "slices", "contrasts"} <= {r for r in rooms if r not in needs}


@pytest.mark.parametrize(
    ("above", "below"),
    [
        ("evaluation", "quality"),
        ("report", "quality"),
        ("quality", "plan"),
        ("run", "plan"),
        ("training", "slices"),
        ("anatomy", "files"),
    ],
)
def test_what_lies_below_does_not_know_what_is_made_of_it(above: str, below: str) -> None:
    wrong = [
        i
        for i in all_imports()
        if within(i.importer, f"colapipe.{below}") and within(i.target, f"colapipe.{above}")
    ]
    assert not wrong, listed(wrong)


def test_the_library_does_not_know_nipype() -> None:
    wrong = [i for i in all_imports() if is_library(i.importer) and within(i.target, "nipype")]
    assert not wrong, listed(wrong)


def test_only_the_commands_reach_the_workflows_and_only_when_they_run() -> None:
    wrong = [
        i
        for i in all_imports()
        if is_library(i.importer)
        and any(within(i.target, f"colapipe.{room}") for room in ("workflows", "interfaces"))
        and (i.at_import or not within(i.importer, "colapipe.cli"))
    ]
    assert not wrong, listed(wrong)


def test_the_model_knows_nothing_of_the_app() -> None:
    wrong = [
        i
        for i in all_imports()
        if within(i.importer, "colapipe.coladiff")
        and within(i.target, "colapipe")
        # "from .. import x" also yields the bare parent, which is no dependency of its own.
        and not within(i.target, "colapipe.coladiff")
        and i.target != "colapipe"
    ]
    assert not wrong, listed(wrong)


def test_baselines_know_the_model_and_not_how_it_is_trained() -> None:
    allowed = ("colapipe.baselines", "colapipe.coladiff", "colapipe.contrasts")
    wrong = [
        i
        for i in all_imports()
        if within(i.importer, "colapipe.baselines")
        and within(i.target, "colapipe")
        and not any(within(i.target, room) for room in allowed)
        and i.target != "colapipe"
    ]
    assert not wrong, listed(wrong)


def test_interfaces_do_not_know_the_workflows() -> None:
    wrong = [
        i
        for i in all_imports()
        if within(i.importer, "colapipe.interfaces") and within(i.target, "colapipe.workflows")
    ]
    assert not wrong, listed(wrong)


@pytest.mark.parametrize("room", ["anatomy", "slices", "coladiff"])
def test_pure_functions_do_not_know_the_settings(room: str) -> None:
    wrong = [
        i
        for i in all_imports()
        if within(i.importer, f"colapipe.{room}") and within(i.target, "colapipe.config")
    ]
    assert not wrong, listed(wrong)


def test_the_rooms_beside_the_library_are_imported_by_their_installed_names() -> None:
    folders = [folder for package, folder in ROOMS.items() if package != folder]
    wrong = [i for i in all_imports() if any(within(i.target, folder) for folder in folders)]
    assert not wrong, listed(wrong)


@pytest.mark.parametrize("module", FORBIDDEN_IMPORTS)
def test_nothing_imports_what_is_unsafe(module: str) -> None:
    wrong = [i for i in all_imports() if within(i.target, module)]
    assert not wrong, f"{FORBIDDEN_IMPORTS[module]}:\n{listed(wrong)}"


def unsafe_calls(source: str) -> list[int]:
    """Return the lines that call eval, exec or torch.load, or hand a command to a shell."""
    lines = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        shell = [word.value for word in node.keywords if word.arg == "shell"]
        by_shell = bool(shell) and ast.unparse(shell[0]) != "False"
        if name in {"eval", "exec", "torch.load", "os.system", "os.popen"} or by_shell:
            lines.append(node.lineno)
    return lines


@pytest.mark.parametrize(
    "source", ["eval('1')", "torch.load(path)", "subprocess.run(command, shell=True)"]
)
def test_the_reader_of_calls_sees_them(source: str) -> None:
    assert unsafe_calls(source) == [1]
    assert unsafe_calls("model.eval()\nrun(command, shell=False)") == []


def test_nothing_runs_code_from_data() -> None:
    wrong = {
        str(path.relative_to(ROOT)): lines
        for path in source_files()
        if (lines := unsafe_calls(path.read_text(encoding="utf-8")))
    }
    assert not wrong


def lines_of_code(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Count the lines of a function below its signature, without its docstring."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return (function.end_lineno or 0) - body[0].lineno + 1 if body else 0


@pytest.mark.parametrize(
    "path", sorted((ROOT / "interfaces").rglob("*.py")), ids=lambda path: path.name
)
def test_an_interface_is_a_specification_and_a_call(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ClassDef):
            functions = [child for child in node.body if isinstance(child, ast.FunctionDef)]
            lines = sum(lines_of_code(function) for function in functions)
            assert lines <= LINES_OF_AN_INTERFACE, f"{path.name}: {node.name} runs {lines} lines"


@pytest.mark.parametrize(
    "path", sorted((ROOT / "workflows").glob("*.py")), ids=lambda path: path.name
)
def test_a_workflow_file_can_be_read_at_a_sitting(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines < LINES_OF_A_WORKFLOW_FILE, f"{path.name} has {lines} lines"


@pytest.mark.parametrize(
    "module", sorted(module_name(path) for path in (ROOT / "colapipe" / "cli").rglob("*.py"))
)
def test_a_command_starts_without_what_is_slow_to_import(module: str) -> None:
    code = f"import sys, {module}; print(*sorted(sys.modules))"
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert answer.returncode == 0, answer.stderr
    assert not set(answer.stdout.split()) & set(HEAVY)


@pytest.mark.parametrize(
    ("command", "module"),
    [
        ("colapipe", "colapipe.cli.app"),
        ("colapipe-model", "colapipe.cli.model"),
        ("colapipe-demo", "colapipe.cli.demo"),
    ],
)
def test_help_is_shown_without_what_is_slow_to_import(command: str, module: str) -> None:
    code = (
        f"import sys\nfrom {module} import main\n"
        "try:\n    main(['--help'])\n"
        "except SystemExit as end:\n    print(end.code, *sys.modules, file=sys.stderr)"
    )
    answer = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert f"usage: {command} " in answer.stdout
    exit_code, *modules = answer.stderr.split()
    assert exit_code == "0"
    assert module in modules and not set(modules) & set(HEAVY)


def test_every_folder_of_the_house_is_installed() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    packages = set(setup["options"]["packages"].split())
    folders = {module_name(path / "__init__.py") for path in {p.parent for p in source_files()}}
    assert packages == folders


def test_every_room_says_in_one_sentence_what_lives_there() -> None:
    for folder in {path.parent for path in source_files()}:
        door = folder / "__init__.py"
        assert door.is_file(), f"{door.relative_to(ROOT)} is missing"
        assert ast.get_docstring(ast.parse(door.read_text(encoding="utf-8"))), f"{door} is silent"
