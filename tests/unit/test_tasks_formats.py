"""Every data format in its original form, and the known counts of the real files where they are at hand."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from fdistill.errors import DataError
from fdistill.tasks import FORMATS, Example, load_split, statistics

SHARED = os.environ.get("FDISTILL_SHARED_DATA")
real_data = pytest.mark.skipif(not SHARED, reason="needs the files that FDISTILL_SHARED_DATA names")

TRIPLES = [["Mill Bridge", "CROSSES", "River_Ede"], ["[TABLECONTEXT]", "yearBuilt", "1897"]]


def write(path: Path, content: str) -> str:
    path.write_text(content, encoding="utf-8", newline="")
    return str(path)


def load(format_: str, source: str, split: str = "train", **options) -> list[Example]:
    return load_split({"format": format_, split: source, **options}, split)


def test_e2e_reads_records_and_references(tmp_path):
    path = write(tmp_path / "a.csv", 'mr,ref\r\n"name[A], area[b]","One, two."\r\n"name[A], area[b]",Three.\r\n')
    prompt = "name[A], area[b]"
    assert load("e2e", path) == [Example(prompt, "One, two."), Example(prompt, "Three.")]
    assert load("e2e", path, "test") == [Example(prompt, "One, two.", ("One, two.", "Three."))]


def test_dart_json_and_xml_agree(tmp_path):
    entry = {"tripleset": TRIPLES, "subtree_was_extended": False, "annotations": [{"source": "x", "text": "T & <a>."}]}
    as_json = write(tmp_path / "a.json", json.dumps([entry]))
    as_xml = write(
        tmp_path / "a.xml",
        "<?xml version='1.0' encoding='utf-8'?>\n<benchmark><entries><entry category='MISC' eid='Id1' size='2'>"
        "<modifiedtripleset><mtriple>Mill Bridge | CROSSES | River_Ede</mtriple>"
        "<mtriple>[TABLECONTEXT] | yearBuilt | 1897</mtriple></modifiedtripleset>"
        "<lex comment='' lid='Id1'>T &amp; &lt;a&gt;.</lex></entry></entries></benchmark>",
    )
    expected = "Mill Bridge : crosses : River_Ede | [TABLECONTEXT] : yearbuilt : 1897"
    assert load("dart", as_json) == load("dart", as_xml) == [Example(expected, "T & <a>.")]
    readable = "Mill Bridge, crosses: River_Ede; table, year built: 1897"
    assert load("dart", as_json, linearisation="readable")[0].prompt == readable
    with pytest.raises(DataError, match=r"linearisation is 'nice'.*paper, readable"):
        load("dart", as_json, linearisation="nice")


def test_dart_leaves_out_empty_texts_as_its_test_file_holds_one(tmp_path, caplog):
    entry = {"tripleset": TRIPLES, "annotations": [{"text": ""}, {"text": "B."}]}
    assert len(load("dart", write(tmp_path / "a.json", json.dumps([entry])))) == 1
    assert "left out 1 entry" in caplog.text


@pytest.mark.parametrize("kind", ["csv", "jsonl", "json", "parquet", "source,target"])
def test_xsum_reads_columns_and_parallel_files(kind, tmp_path):
    rows = [{"document": "A long one.", "summary": "Short.", "id": "1"}, {"document": "B.", "summary": "C.", "id": "2"}]
    if kind == "csv":
        source = write(tmp_path / "a.csv", "id,document,summary\n1,A long one.,Short.\n2,B.,C.\n")
    elif kind == "jsonl":
        source = write(tmp_path / "a.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    elif kind == "json":
        source = write(tmp_path / "a.json", json.dumps(rows))
    elif kind == "parquet":
        source = str(tmp_path / "a.parquet")
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), source)
    else:
        first = write(tmp_path / "a.source", "A long one.\nB.\n")
        source = first + ", " + write(tmp_path / "a.target", "Short.\nC.")
    assert load("xsum", source) == [Example("A long one.", "Short."), Example("B.", "C.")]


def test_translation_reads_json_lines_and_parallel_files_with_a_prefix(tmp_path):
    rows = [{"translation": {"en": "Good day", "ro": "Bună ziua"}}]
    lines = write(tmp_path / "a.json", json.dumps(rows[0], ensure_ascii=False) + "\n")
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    parallel = write(tmp_path / "a.en", "Good day\n") + "," + write(tmp_path / "a.ro", "Bună ziua\n")
    expected = [Example("translate English to Romanian: Good day", "Bună ziua")]
    for source in (lines, parallel, str(tmp_path / "a.parquet")):
        assert load("wmt16-en-ro", source) == expected
    assert load("wmt16-en-ro", lines, prefix="")[0].prompt == "Good day"
    other = write(tmp_path / "b.json", '{"translation": {"en": "a", "de": "b"}}\n')
    with pytest.raises(DataError, match=r'b.json, line 1: .*"en" and "ro"'):
        load("wmt16-en-ro", other)


def test_empty_source_is_left_out_though_the_prefix_is_none(tmp_path, caplog):
    parallel = write(tmp_path / "a.en", "\nb\n") + "," + write(tmp_path / "a.ro", "x\ny\n")
    assert len(load("wmt16-en-ro", parallel)) == 1
    assert "left out 1 entry" in caplog.text


def test_every_turn_of_a_dialogue_is_an_example(tmp_path):
    content = {"4": {"context": "Ann cooks. ", "speaker": "Ann", "turns": ["Hungry?", " Yes. ", "Sit down."]}}
    path = write(tmp_path / "a.json", json.dumps(content))
    end = "<|endoftext|>"
    assert load("commonsense-dialogue", path) == [
        Example(f"Ann cooks.{end}", "Hungry?"),
        Example(f"Ann cooks.{end}Hungry?{end}", "Yes."),
        Example(f"Ann cooks.{end}Hungry?{end}Yes.{end}", "Sit down."),
    ]
    assert load("commonsense-dialogue", path, separator=" | ")[1].prompt == "Ann cooks. | Hungry? | "


def test_prompt_and_completion_keep_their_spaces(tmp_path):
    path = write(tmp_path / "a.jsonl", '{"prompt": "Q: x\\nA:", "completion": " y", "teacher_completion_ids": [1]}\n')
    assert load("jsonl", path) == [Example("Q: x\nA:", " y")]
    named = write(tmp_path / "b.csv", "question,answer\nx,y\n")
    assert load("csv", named, prompt_column="question", completion_column="answer") == [Example("x", "y")]


@pytest.mark.parametrize("format_", ["jsonl", "parquet"])
def test_chat_messages_are_read_and_merged(format_, tmp_path):
    prompt = [{"role": "user", "content": "Hello"}]
    rows = [{"prompt": prompt, "completion": [{"role": "assistant", "content": text}]} for text in ("Hi", "Good day")]
    path = str(tmp_path / f"a.{format_}")
    if format_ == "jsonl":
        write(Path(path), "".join(json.dumps(row) + "\n" for row in rows))
    else:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    assert [example.prompt for example in load(format_, path)] == [prompt, prompt]
    assert load(format_, path, "test") == [Example(prompt, rows[0]["completion"], ("Hi", "Good day"))]
    assert statistics(load(format_, path))["completion"]["words"]["max"] == 2


def test_hub_data_set_is_read_by_its_split(tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "mine"
    folder.mkdir()
    write(folder / "train.jsonl", '{"prompt": "a", "completion": "b"}\n{"prompt": "a", "completion": "c"}\n')
    write(folder / "test.jsonl", '{"prompt": "d", "completion": "e"}\n')
    settings = {"format": "hub", "hub": str(folder), "train": "train", "validation": 0.5, "test": "test"}
    assert load_split(settings, "test") == [Example("d", "e", ("e",))]
    assert load_split(settings | {"validation": None}, "train") == [Example("a", "b"), Example("a", "c")]
    with pytest.raises(DataError, match=r"split 'tset'.*Did you mean 'test'\?"):
        load_split(settings | {"test": "tset"}, "test")
    with pytest.raises(DataError, match=r"mine \(test\), row 1: there is no column 'document'"):
        load_split(settings | {"format": "xsum"}, "test")
    with pytest.raises(DataError, match="format dart cannot be read from a hub"):
        load_split(settings | {"format": "dart"}, "test")


def test_unknown_hub_data_set_gets_one_line(monkeypatch):
    import datasets

    def offline(*args, **kwargs):
        raise ConnectionError("Couldn't reach the Hub\nlong traceback")

    monkeypatch.setattr(datasets, "load_dataset", offline)
    with pytest.raises(DataError, match=r"^data.hub 'some/data'.*reach the Hub\. Check data.hub") as caught:
        load_split({"format": "hub", "hub": "some/data", "train": "train"}, "train")
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match=r"data\.hub is not set"):
        load_split({"format": "hub", "train": "train"}, "train")


def test_every_format_has_a_summary_and_a_reader():
    for name, form in FORMATS.items():
        assert form.summary
        assert form.read or form.rows or name in ("restaurants", "instructions")


def test_reading_imports_neither_torch_nor_datasets():
    import subprocess
    import sys

    code = "import sys, fdistill.tasks; print({'torch', 'transformers', 'datasets', 'pyarrow'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"


# --------------------------------------------------------------------------- the real files

COUNTS = [  # format, file, examples in training, distinct inputs, texts
    ("e2e", "e2e/devset.csv", 4672, 547, 4672),
    ("e2e", "e2e/testset_w_refs.csv", 4693, 630, 4693),
    ("dart", "dart/dart-v1.1.1-full-dev.json", 6980, 2721, 6980),
    ("dart", "dart/dart-v1.1.1-full-test.xml", 12551, 4159, 12551),  # one of its 12,552 texts is empty
    ("commonsense-dialogue", "commonsense-dialogues/valid.json", 6619, 5945, 6619),
    ("wmt16-en-ro", "wmt16-en-ro/sample.json", 10, 9, 10),
]


@real_data
@pytest.mark.parametrize(("format_", "name", "pairs", "inputs", "texts"), COUNTS)
def test_real_files_have_their_known_counts(format_, name, pairs, inputs, texts):
    source = str(Path(SHARED) / name)
    train, test = load(format_, source), load(format_, source, "test")
    assert len(train) == pairs
    assert len(test) == statistics(train)["inputs"] == inputs
    assert statistics(test)["texts"] == texts


@real_data
@pytest.mark.parametrize(
    ("name", "entries"), [("dart/dart-v1.1.1-full-dev.json", 2768), ("dart/dart-v1.1.1-full-test.xml", 5097)]
)
def test_real_dart_files_have_their_known_entries(name, entries):
    from fdistill.tasks.dart import read_dart

    assert len({pair.where for pair in read_dart(Path(SHARED) / name)}) == entries


@real_data
def test_real_dialogues_are_split_by_context():
    source = str(Path(SHARED) / "commonsense-dialogues/valid.json")
    settings = {"format": "commonsense-dialogue", "train": source, "validation": 0.1, "test": 0.1}
    parts = [load_split(settings, split) for split in ("train", "validation", "test")]
    contexts = [{example.prompt.split("<|endoftext|>")[0] for example in part} for part in parts]
    assert not contexts[0] & contexts[1] and not contexts[0] & contexts[2] and not contexts[1] & contexts[2]
    assert sum(map(len, contexts)) == 483
    assert sum(len(example.texts) for part in parts for example in part) == 6619
