"""What MkDocs calls while it builds the pages."""

from __future__ import annotations

import re
from typing import Any


def on_page_content(html: str, **_: Any) -> str:
    """Show the Sphinx roles of docstrings, such as ``:class:`Stage```, as code."""
    return re.sub(r":(?:class|meth|func|mod|attr|data):<code>~?", "<code>", html)
