"""Notebooks as pages: Markdown cells as they are, code cells as code, and below them what they printed when they were saved."""

import json

from myst_parser.parsers.sphinx_ import MystParser

FENCE = "````"


def as_markdown(notebook: dict) -> str:
    """A notebook's cells and text outputs as one Markdown page."""
    parts = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
        else:
            parts.append(f"{FENCE}python\n{source}\n{FENCE}")
            parts += [f"{FENCE}text\n{text}\n{FENCE}" for text in map(_text, cell["outputs"]) if text]
    return "\n\n".join(parts) + "\n"


def _text(output: dict) -> str:
    found = output.get("text") or output.get("data", {}).get("text/plain") or ""
    return "".join(found).rstrip("\n")


class NotebookParser(MystParser):
    """Reads an .ipynb file."""

    supported = ("notebook",)

    def parse(self, inputstring: str, document) -> None:
        super().parse(as_markdown(json.loads(inputstring)), document)


def setup(app):
    app.add_source_suffix(".ipynb", "notebook")
    app.add_source_parser(NotebookParser)
    return {"parallel_read_safe": True, "version": "1"}
