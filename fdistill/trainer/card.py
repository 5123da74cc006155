"""The model card of a saved student: what it is and how it was trained, in a README.md beside its weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

CARD = """---
library_name: transformers
tags:
- knowledge-distillation
- fdistill
---

# {title}

{rows}

Load it with `AutoTokenizer.from_pretrained` and `{auto_class}.from_pretrained`.

Trained with f-DISTILL: Wen, Li, Du and Mou (2023), f-Divergence Minimization for Sequence-Level Knowledge Distillation, ACL 2023.
"""


def write_card(folder: Path, title: str, auto_class: str, facts: Mapping[str, str]) -> None:
    """Write the card, one row of a table for every fact."""
    rows = "\n".join(["| | |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in facts.items())])
    (folder / "README.md").write_text(CARD.format(title=title, rows=rows, auto_class=auto_class), encoding="utf-8")
