"""The site of the documentation; `scripts/docs` builds it."""

from importlib.metadata import version as version_of

project = "funnelcast"
author = "the funnelcast authors"
version = release = version_of("funnelcast")

extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["generate"]
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3
nitpicky = True

html_theme = "furo"
html_title = "funnelcast"
html_static_path = ["_static"]
html_css_files = ["tables.css"]
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
