"""Text in: every data format becomes examples of a prompt and a completion, read strictly."""

from fdistill.tasks.example import Example, Messages, Text, plain_text
from fdistill.tasks.formats import FORMATS, Format
from fdistill.tasks.splits import SPLITS, load_split
from fdistill.tasks.statistics import data_fingerprint, statistics

__all__ = [
    "FORMATS",
    "SPLITS",
    "Example",
    "Format",
    "Messages",
    "Text",
    "data_fingerprint",
    "load_split",
    "plain_text",
    "statistics",
]
