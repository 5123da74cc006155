"""Shows each Coq file of proofs/ as a page: its header, then a section for every theorem, so that a link can name one."""

import re

from docutils import nodes
from sphinx.parsers import Parser

HEADER = re.compile(r"\A\(\*\*(.*?)\*\)\n", re.DOTALL)
THEOREM = re.compile(r"^Theorem\s+([\w']+)", re.MULTILINE)


class CoqParser(Parser):
    """Reads a .v file; `File.v#theorem` in a Markdown page links to that theorem's section."""

    supported = ("coq",)

    def parse(self, inputstring: str, document: nodes.document) -> None:
        header = HEADER.match(inputstring)
        if header is None:
            raise ValueError(
                f"{document['source']} does not open with a (** … *) comment; say there what the file proves."
            )
        title, _, summary = header[1].strip().removeprefix("* ").partition("\n")
        page = self._section(document, "top", title)
        page += _verbatim(_dedented(summary), "text")
        source = inputstring[header.end() :].strip("\n")
        starts = [match.start() for match in THEOREM.finditer(source)]
        page += _verbatim(source[: starts[0]] if starts else source)
        slugs = {}
        for start, end in zip(starts, [*starts[1:], len(source)], strict=True):
            name = THEOREM.match(source, start)[1]
            section = self._section(page, name, name)
            section += _verbatim(source[start:end])
            slugs[name] = (0, section["ids"][0], name)
        env = document.settings.env
        env.metadata[env.docname]["myst_slugs"] = slugs

    def _section(self, parent: nodes.Element, name: str, title: str) -> nodes.section:
        section = nodes.section(ids=[name], names=[])
        section += nodes.title(title, title)
        parent += section
        return section


def _verbatim(code: str, language: str = "coq") -> nodes.literal_block:
    code = code.strip("\n")
    return nodes.literal_block(code, code, language=language)


def _dedented(text: str) -> str:
    return "\n".join(line.removeprefix("    ") for line in text.strip("\n").splitlines())


def setup(app):
    app.add_source_suffix(".v", "coq")
    app.add_source_suffix(".md", "markdown", override=True)
    app.add_source_parser(CoqParser)
    return {"parallel_read_safe": True, "version": "1"}
