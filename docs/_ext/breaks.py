"""Long names in inline code may break after a joint (_ . / : =), so that they fit tables and telephones; copies stay clean."""

import re

INLINE = re.compile(r'(?<=<span class="pre">)[^<]+(?=</span>)')
JOINT = re.compile(r"(?<=\w)([_./:=]+)(?=\w)")


def with_breaks(body: str) -> str:
    """A page's HTML with optional line breaks inside its inline code."""
    return INLINE.sub(lambda name: _broken(name[0]), body)


def _broken(name: str) -> str:
    if name.startswith("-"):  # an option is one word
        return f'<span class="whole">{name}</span>'
    return JOINT.sub(r"\1<wbr>", name)


def _page(app, pagename, templatename, context, doctree):
    if "body" in context:
        context["body"] = with_breaks(context["body"])


def setup(app):
    app.connect("html-page-context", _page)
    return {"parallel_read_safe": True, "version": "1"}
