"""Docstrings here are plain text with `code` in single backticks; autodoc reads reStructuredText, where | and * are markup."""

import re

CODE = re.compile(r"(``[^`]+``|`[^`]+`)")
BULLET = re.compile(r"^(\s*\* )?(.*)$")


def as_rst(line: str) -> str:
    """One line with its code in double backticks and everything else, but for a leading bullet, free of markup."""
    bullet, text = BULLET.match(line).groups()
    parts = CODE.split(text)
    return (bullet or "") + "".join(
        f"``{part.strip('`')}``" if part.startswith("`") else _escaped(part) for part in parts
    )


def _escaped(text: str) -> str:
    text = re.sub(r"[|*]", lambda match: "\\" + match[0], text)
    return re.sub(r"(\w)_(?!\w)", r"\1\\_", text)


def _process(app, what, name, obj, options, lines):
    if what == "data" and obj.__doc__ == type(obj).__doc__:
        lines.clear()  # that of dict or str, which says nothing of this one
    if what == "class":  # a dataclass describes its fields, which are the arguments it is made with
        lines[:] = ["Args:" if line == "Attributes:" else line for line in lines]
    lines[:] = [as_rst(line) for line in lines]


def setup(app):
    app.connect("autodoc-process-docstring", _process, priority=400)  # before napoleon's 500
    return {"parallel_read_safe": True, "version": "1"}
