"""The models' mirrors: the same machines in Python's standard library. `MODELS` is every file here that declares one."""

from importlib import import_module
from pathlib import Path

from mirror.bfs import Model

_MODULES = [import_module(f"mirror.{path.stem}") for path in sorted(Path(__file__).parent.glob("[a-z]*.py"))]
MODELS: dict[str, Model] = {module.MODEL.name: module.MODEL for module in _MODULES if hasattr(module, "MODEL")}
