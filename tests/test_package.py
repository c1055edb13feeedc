"""The package under test is the one that a user installs."""

import importlib
import os
import sys
import sysconfig
from importlib.metadata import files, metadata, version
from pathlib import Path

import pytest

import causal


@pytest.mark.skipif(not os.environ.get("CAUSAL_INSTALLED"), reason="only `make test` promises an installed package")
def test_the_installed_package_is_tested() -> None:
    assert Path(causal.__file__).is_relative_to(sysconfig.get_path("purelib"))
    assert str(Path(__file__).parent.parent / "src") not in sys.path


def test_the_version_is_the_distributions() -> None:
    assert causal.__version__ == version("causal-tokens")


@pytest.mark.skipif(not os.environ.get("CAUSAL_INSTALLED"), reason="an editable install lists no files of its own")
def test_the_wheel_ships_types_and_licence_and_nothing_else() -> None:
    listed = {str(path) for path in files("causal-tokens") or ()}
    assert "causal/py.typed" in listed
    assert any(path.endswith("licenses/LICENSE") for path in listed)
    # `__pycache__` is what an installer compiled of the plugin, which stands beside the package.
    assert {path.partition("/")[0] for path in listed} - {"..", "causal", "_causal_pytest.py", "__pycache__"} == {
        f"causal_tokens-{causal.__version__}.dist-info"
    }


def test_the_testing_module_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "hypothesis" or "causal.testing" in name]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Without("hypothesis"), *sys.meta_path])
    with pytest.raises(ImportError, match=r"pip install 'causal-tokens\[testing\]'") as caught:
        importlib.import_module("causal.testing")
    assert caught.value.name == "hypothesis"


class Without:
    """A finder that finds one package missing."""

    def __init__(self, name: str) -> None:
        self.name = name

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name == self.name:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def test_importing_the_package_needs_only_what_it_requires() -> None:
    required = [line for line in metadata("causal-tokens").get_all("Requires-Dist", []) if "extra ==" not in line]
    assert sorted(line.split(">=")[0] for line in required) == ["attrs", "cbor2", "cryptography"]
