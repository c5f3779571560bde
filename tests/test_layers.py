"""Imports only go down the list of layers."""

import ast
from pathlib import Path

LAYERS = [
    "cli",
    "report",
    "bench",
    "problems",
    "analysis",
    "optim",
    "curvature",
    "objective",
    "linalg",
    "operators",
    "core",
]
SOURCE = Path(__file__).parents[1] / "src" / "quadric"


def imported(path):
    """The layers that a file imports, wherever in the file it does so."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("quadric"):
            parts = node.module.split(".")
            names = [parts[1]] if len(parts) > 1 else [alias.name for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [a.name.split(".")[1] for a in node.names if a.name.startswith("quadric.")]
        else:
            continue
        yield from (name for name in names if name in LAYERS)


def test_imports_go_down():
    upward = [
        f"{path.relative_to(SOURCE)} imports {name}"
        for layer in LAYERS
        for path in (SOURCE / layer).rglob("*.py")
        for name in imported(path)
        if LAYERS.index(name) < LAYERS.index(layer) or {name, layer} == {"optim", "analysis"}
    ]
    assert upward == []


def test_every_folder_is_a_layer():
    folders = {p.name for p in SOURCE.iterdir() if p.is_dir() and p.name != "__pycache__"}
    assert folders == set(LAYERS)
