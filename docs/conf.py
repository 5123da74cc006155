"""The site. Sources are the whole repository, so that a link that works in the checkout works here too; `make docs` builds it."""

import sys
from datetime import date
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "docs" / "_ext"), str(ROOT), str(ROOT / "reference")]

from fdistill import __version__  # noqa: E402

project = "f-DISTILL"
author = "The f-DISTILL authors"
project_copyright = f"{date.today().year}, {author}. Apache-2.0"
release = version = __version__

root_doc = "docs/index"
include_patterns = [
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "SECURITY.md",
    "docs/**",
    "proofs/*.md",
    "proofs/*.v",
]
exclude_patterns = ["docs/_*", ".*", "proofs/build", "runs", "dist", "build", "shared"]
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "sphinx-mathjax-offline",  # MathJax with its fonts, from a package: no page asks the network for anything
    "coq_pages",
    "notebooks",
    "generated",
    "docstrings",
    "breaks",
]

myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence", "deflist"]
myst_heading_anchors = 3
myst_dmath_double_inline = True
myst_dmath_allow_digits = False  # 10$ is a price

autodoc_typehints = "description"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
default_role = "code"

html_theme = "furo"
html_title = "f-DISTILL"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_additional_pages = {"index": "to_docs.html"}
templates_path = ["_templates"]
highlight_language = "text"  # of blocks that name none: commands, mostly
pygments_style = "friendly"
pygments_dark_style = "github-dark"
