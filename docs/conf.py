"""How `make docs` turns these pages into a site. The pages themselves read well as they are."""

from pygments.lexers.special import TextLexer
from sphinx.application import Sphinx

project = "causal"
extensions = ["myst_parser"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = "causal"
exclude_patterns = ["_build"]


def setup(app: Sphinx) -> None:
    """Teach the fence `output` (see CONTRIBUTING.md) to the highlighter."""
    app.add_lexer("output", TextLexer)
