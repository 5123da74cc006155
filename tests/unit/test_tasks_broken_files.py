"""Every reader against a corpus of broken files: each gives one clear DataError that names the file and the mend."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from fdistill.errors import DataError
from fdistill.tasks import load_split

TEXT = "The café by the river is “cheap”, and good."
TEXTS = [f"{TEXT} {word}" for word in ("one", "two", "three")]


def csv_text(first: str, second: str) -> str:
    rows = [f'input {i},"{text}"' for i, text in enumerate(TEXTS)]
    return "\n".join([f"{first},{second}", *rows]) + "\n"


def json_lines(first: str, second: str) -> str:
    rows = [{first: f"input {i}", second: text} for i, text in enumerate(TEXTS)]
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def translations() -> str:
    rows = [{"translation": {"en": f"input {i}", "ro": text}} for i, text in enumerate(TEXTS)]
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def dart_json() -> str:
    rows = [
        {"tripleset": [[f"input {i}", "AREA", "river"]], "annotations": [{"source": "x", "text": text}]}
        for i, text in enumerate(TEXTS)
    ]
    return json.dumps(rows, ensure_ascii=False, indent=2) + "\n"


def dart_xml() -> str:
    entries = [
        f'<entry category="A" eid="Id{i}" size="1">\n<modifiedtripleset>\n<mtriple>input {i} | AREA | river</mtriple>\n'
        f'</modifiedtripleset>\n<lex comment="" lid="Id1">{text}</lex>\n</entry>\n'
        for i, text in enumerate(TEXTS)
    ]
    head = "<?xml version='1.0' encoding='utf-8'?>\n<benchmark>\n<entries>\n"
    return head + "".join(entries) + "</entries>\n</benchmark>\n"


def dialogues() -> str:
    rows = {str(i): {"context": f"input {i}", "speaker": "A", "turns": [text]} for i, text in enumerate(TEXTS)}
    return json.dumps(rows, ensure_ascii=False, indent=4) + "\n"


@dataclass(frozen=True)
class Reader:
    format: str
    name: str
    content: str
    parallel: str = ""  # the suffix of a second file that stays whole

    def load(self, folder: Path, content: bytes, name: str | None = None) -> list:
        path = folder / (name or self.name)
        path.write_bytes(content)
        source = str(path)
        if self.parallel:
            other = folder / f"data.{self.parallel}"
            other.write_text("".join(f"input {i}\n" for i in range(len(TEXTS))), encoding="utf-8")
            source = f"{other},{path}"
        return load_split({"format": self.format, "train": source}, "train")


PARALLEL = "".join(text + "\n" for text in TEXTS)
READERS = [
    Reader("e2e", "data.csv", csv_text("mr", "ref")),
    Reader("csv", "data.csv", csv_text("prompt", "completion")),
    Reader("jsonl", "data.jsonl", json_lines("prompt", "completion")),
    Reader("dart", "data.json", dart_json()),
    Reader("dart", "data.xml", dart_xml()),
    Reader("xsum", "data.csv", csv_text("document", "summary")),
    Reader("xsum", "data.jsonl", json_lines("document", "summary")),
    Reader("xsum", "data.target", PARALLEL, "source"),
    Reader("wmt16-en-ro", "data.json", translations()),
    Reader("wmt16-en-ro", "data.ro", PARALLEL, "en"),
    Reader("commonsense-dialogue", "data.json", dialogues()),
]
readers = pytest.mark.parametrize("reader", READERS, ids=lambda r: f"{r.format}:{r.name}")


def refusal(action: Callable[[], object]) -> str:
    """The one line that a person sees."""
    with pytest.raises(DataError) as caught:
        action()
    message = str(caught.value)
    assert "\n" not in message and message.endswith((".", "utf8"))
    return message


@readers
def test_whole_file_is_read(reader, tmp_path):
    assert [example.completion for example in reader.load(tmp_path, reader.content.encode())] == TEXTS


@readers
def test_crlf_and_byte_order_mark_change_nothing(reader, tmp_path):
    plain = reader.load(tmp_path, reader.content.encode())
    windows = b"\xef\xbb\xbf" + reader.content.replace("\n", "\r\n").encode()
    assert reader.load(tmp_path, windows) == plain


@readers
def test_gzip_is_read(reader, tmp_path):
    plain = reader.load(tmp_path, reader.content.encode())
    assert reader.load(tmp_path, gzip.compress(reader.content.encode()), reader.name + ".gz") == plain


@readers
@pytest.mark.parametrize("content", [b"", b"\n", b" \n\n"])
def test_empty_file_is_refused(reader, content, tmp_path):
    message = refusal(lambda: reader.load(tmp_path, content))
    assert reader.name in message


@readers
def test_latin1_is_refused(reader, tmp_path):
    content = reader.content.replace("“", '""' if ".csv" in reader.name else "'").replace("”", "'")
    content = content.replace('""', "'").encode("latin1")
    message = refusal(lambda: reader.load(tmp_path, content))
    assert f"{reader.name}, line " in message and ("iconv" in message or "UTF-8" in message)


@readers
def test_utf16_is_refused(reader, tmp_path):
    message = refusal(lambda: reader.load(tmp_path, reader.content.encode("utf-16")))
    assert reader.name in message and "UTF-" in message


@readers
def test_zero_byte_is_refused(reader, tmp_path):
    message = refusal(lambda: reader.load(tmp_path, reader.content.replace("river", "ri\0er").encode()))
    assert f"{reader.name}, line " in message


@readers
def test_truncated_file_is_refused(reader, tmp_path):
    content = reader.content[: reader.content.index(TEXTS[1]) + 10].encode()
    message = refusal(lambda: reader.load(tmp_path, content))
    assert reader.name in message and "line " in message


@readers
def test_truncated_gzip_is_refused(reader, tmp_path):
    content = gzip.compress(reader.content.encode())[:-12]
    message = refusal(lambda: reader.load(tmp_path, content, reader.name + ".gz"))
    assert f"{reader.name}.gz" in message and "damaged or cut off" in message and "again" in message


@readers
def test_damaged_gzip_is_refused(reader, tmp_path):
    content = bytearray(gzip.compress(reader.content.encode()))
    content[20] ^= 0xFF
    assert "damaged" in refusal(lambda: reader.load(tmp_path, bytes(content), reader.name + ".gz"))


@readers
def test_plain_file_named_gz_is_refused(reader, tmp_path):
    message = refusal(lambda: reader.load(tmp_path, reader.content.encode(), reader.name + ".gz"))
    assert "no gzip file" in message


@readers
def test_ten_megabyte_line_is_refused(reader, tmp_path):
    content = reader.content.replace(TEXTS[1], "far too long " * 800_000).encode()
    message = refusal(lambda: reader.load(tmp_path, content))
    assert reader.name in message and len(message) < 500


@readers
def test_missing_file_and_folder_are_refused(reader, tmp_path):
    settings = {"format": reader.format}
    message = refusal(lambda: load_split(settings | {"train": str(tmp_path / f"no-{reader.name}")}, "train"))
    assert "there is no such file" in message
    folder = tmp_path / f"folder-{reader.name}"
    folder.mkdir()
    assert "folder" in refusal(lambda: load_split(settings | {"train": str(folder)}, "train"))


@pytest.mark.parametrize(
    "reader", [r for r in READERS if r.format != "dart" and not r.parallel], ids=lambda r: r.format
)
def test_empty_text_is_refused_or_left_out(reader, tmp_path, caplog):
    content = reader.content.replace(TEXTS[1], "  ").encode()
    path = tmp_path / reader.name
    path.write_bytes(content)
    settings = {"format": reader.format, "train": str(path)}
    message = refusal(lambda: load_split(settings | {"skip_empty": False}, "train"))
    assert f"{reader.name}, line " in message and "completion is empty" in message and "data.skip_empty=true" in message
    assert len(load_split(settings | {"skip_empty": True}, "train")) == 2
    assert "left out 1 entry with an empty text" in caplog.text


@pytest.mark.parametrize("reader", [r for r in READERS if not r.parallel], ids=lambda r: f"{r.format}:{r.name}")
def test_wrong_columns_are_refused(reader, tmp_path):
    words = {"e2e": "ref", "xsum": "summary", "wmt16-en-ro": "translation", "commonsense-dialogue": "turns"}
    word = words.get(reader.format, "lex" if reader.name.endswith("xml") else "annotations")
    word = "completion" if reader.format in ("csv", "jsonl") else word
    message = refusal(lambda: reader.load(tmp_path, reader.content.replace(word, "answers").encode()))
    assert f"{reader.name}, line " in message and word in message


def test_near_column_is_suggested(tmp_path):
    message = refusal(lambda: READERS[2].load(tmp_path, json_lines("promt", "completion").encode()))
    assert "Did you mean 'promt'?" in message and "line 1" in message


@pytest.mark.parametrize(
    ("number", "old", "new", "line"),
    [
        (0, "mr,ref", "ref,ref", 1),
        (2, '"prompt": "input 1"', '"prompt": "input 1", "prompt": "x"', 2),
        (3, '"tripleset": [', '"tripleset": [], "tripleset": [', 2),
        (8, '"en": "input 2"', '"en": "input 2", "en": "x"', 3),
        (10, '"1": {', '"0": {', 9),
        (10, '"speaker": "A"', '"turns": ["A"]', 2),
    ],
)
def test_duplicate_keys_are_refused(number, old, new, line, tmp_path):
    content = READERS[number].content
    assert old in content
    message = refusal(lambda: READERS[number].load(tmp_path, content.replace(old, new).encode()))
    assert f"{READERS[number].name}, line {line}:" in message and ("twice" in message or "again" in message)


@pytest.mark.parametrize(
    ("content", "line", "what"),
    [
        ('{"prompt": "a", "completion": "b"}\n{"prompt": "a", "completion": "b"\n', 2, "bad JSON"),
        ('{"prompt": "a", "completion": "b"}\n\n{"prompt": "a", "completion": "b"}\n', 2, "the line is empty"),
        ('{"prompt": "a", "completion": "b"} x\n', 1, "more text after the object"),
        ('["a", "b"]\n', 1, "object with columns"),
        ('{"prompt": "a", "completion": 3}\n', 1, "completion is 3"),
        ('{"prompt": "a", "completion": null}\n', 1, "completion is empty"),
        ('{"prompt": "a", "completion": "\\ud800"}\n', 1, "surrogate"),
        ('{"prompt": "a", "completion": [{"role": "assistant"}]}\n', 1, "chat messages such as"),
        ('{"prompt": [], "completion": "b"}\n', 1, "chat messages such as"),
        ('{"prompt": "a", "completion": [{"role": "assistant", "content": "b"}]}\n', 1, "Write both as text"),
        ("[" * 100_000 + "\n", 1, "nested too deeply"),
        ('[{"prompt": "a", "completion": "b"},\n{"prompt": "a" "completion": "b"}]\n', 2, "bad JSON"),
        ('[{"prompt": "a", "completion": "b"}\n{"prompt": "a", "completion": "b"}]\n', 2, "',' expected"),
        ('[{"prompt": "a", "completion": "b"}]\n[]\n', 2, "more text after the end"),
        ("[]\n", 1, "no entries"),
    ],
)
def test_bad_json_line_is_named(content, line, what, tmp_path):
    message = refusal(lambda: READERS[2].load(tmp_path, content.encode()))
    assert f"data.jsonl, line {line}:" in message and what in message and len(message) < 400


@pytest.mark.parametrize(
    ("content", "line", "what"),
    [
        ('prompt,completion\n"a","b"\na,b,c\n', 3, "2 columns and this record 3"),
        ('prompt,completion\na,"b\nstill b"\nc\n', 4, "2 columns and this record 1"),
        ('prompt,completion\na,"b"c\n', 2, "bad CSV"),
        ('prompt,completion\na,b\nc,"never closed\nand\non\n', 3, "bad CSV"),
        ("prompt,completion\na,\n", 2, "completion is empty"),
    ],
)
def test_bad_csv_line_is_named(content, line, what, tmp_path):
    message = refusal(lambda: READERS[1].load(tmp_path, content.encode()))
    assert f"data.csv, line {line}:" in message and what in message


def test_csv_header_alone_is_refused(tmp_path):
    assert "no examples" in refusal(lambda: READERS[1].load(tmp_path, b"prompt,completion\n"))


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("input 1 | AREA | river", "input 1 | AREA", "subject | relation | object"),
        ("</entry>", "", "bad XML"),
        ("<mtriple>input 1 | AREA | river</mtriple>", "", "no mtriple"),
        ("<benchmark>", '<!DOCTYPE b [<!ENTITY e "x">]><benchmark>', "declares the entity"),
    ],
)
def test_bad_xml_line_is_named(old, new, what, tmp_path):
    message = refusal(lambda: READERS[4].load(tmp_path, dart_xml().replace(old, new).encode()))
    assert "data.xml, line " in message and what in message


def test_xml_without_entries_is_refused(tmp_path):
    assert "no <entry>" in refusal(lambda: READERS[4].load(tmp_path, b"<benchmark></benchmark>"))


@pytest.mark.parametrize("triples", [[], [["a", "b"]], [["a", "b", 3]], "abc", [["a", " ", "c"]]])
def test_bad_tripleset_is_refused(triples, tmp_path):
    content = json.dumps([{"tripleset": triples, "annotations": [{"text": "a"}]}])
    assert "line 1: the tripleset" in refusal(lambda: READERS[3].load(tmp_path, content.encode()))


@pytest.mark.parametrize("annotations", [[], [{}], [{"text": 3}], "abc"])
def test_bad_annotations_are_refused(annotations, tmp_path):
    content = json.dumps([{"tripleset": [["a", "b", "c"]], "annotations": annotations}])
    assert "line 1: the annotations" in refusal(lambda: READERS[3].load(tmp_path, content.encode()))


@pytest.mark.parametrize("dialogue", [{"context": 3, "turns": ["a"]}, {"context": "a", "turns": []}, ["a"], {}])
def test_bad_dialogue_is_refused(dialogue, tmp_path):
    message = refusal(lambda: READERS[10].load(tmp_path, json.dumps({"7": dialogue}).encode()))
    assert "data.json, line 1:" in message


def test_dialogue_turn_that_is_empty_is_refused(tmp_path):
    content = json.dumps({"7": {"context": "a", "turns": ["b", " "]}})
    assert "completion is empty" in refusal(lambda: READERS[10].load(tmp_path, content.encode()))


@pytest.mark.parametrize("reader", [r for r in READERS if r.parallel], ids=lambda r: r.format)
def test_parallel_files_of_different_length_are_refused(reader, tmp_path):
    message = refusal(lambda: reader.load(tmp_path, (reader.content + "one more\n").encode()))
    assert "line 4: the file ends here" in message and "as many lines" in message
    message = refusal(lambda: reader.load(tmp_path, reader.content.split("\n")[0].encode()))
    assert f"{reader.name}, line 2: the file ends here" in message


def test_parallel_lines_end_at_line_feeds_only(tmp_path):
    text = "a\u2028b\x85c\x0bd"
    reader = READERS[7]
    assert reader.load(tmp_path, f"{text}\nx\ny".encode())[0].completion == text


# --------------------------------------------------------------------------- Parquet


def parquet(folder: Path, table: dict[str, list], names: list[str] | None = None) -> str:
    path = folder / "data.parquet"
    made = pyarrow.table(table)
    pyarrow.parquet.write_table(made.rename_columns(names) if names else made, path)
    return str(path)


@pytest.mark.parametrize(
    ("format_", "columns"), [("parquet", ("prompt", "completion")), ("xsum", ("document", "summary"))]
)
def test_parquet_is_read_and_its_faults_are_refused(format_, columns, tmp_path):
    first, second = columns
    load = lambda source: load_split({"format": format_, "train": source, "skip_empty": False}, "train")  # noqa: E731
    assert len(load(parquet(tmp_path, {first: ["a", "b"], second: ["c", "d"]}))) == 2
    assert "row 2: the completion is empty" in refusal(
        lambda: load(parquet(tmp_path, {first: ["a", "b"], second: ["c", None]}))
    )
    assert f"row 1: there is no column '{second}'" in refusal(
        lambda: load(parquet(tmp_path, {first: ["a"], "x": ["b"]}))
    )
    assert "row 1: the completion is 3" in refusal(lambda: load(parquet(tmp_path, {first: ["a"], second: [3]})))
    twice = parquet(tmp_path, {first: ["a"], "x": ["b"]}, [first, first])
    assert f"the column '{first}' is there twice" in refusal(lambda: load(twice))
    whole = (tmp_path / "data.parquet").read_bytes()
    for content, what in ((b"", "empty"), (b"PAR1 no", "Parquet"), (whole[: len(whole) // 2], "Parquet")):
        (tmp_path / "data.parquet").write_bytes(content)
        assert what in refusal(lambda: load(str(tmp_path / "data.parquet")))
