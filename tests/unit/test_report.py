"""The report: which number is best, verdicts from intervals, Markdown and LaTeX, and a page that holds whatever a model wrote."""

import json
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import pytest

from fdistill.errors import FDistillError
from fdistill.report import claims, tables, write_report
from fdistill.report.advice import advise
from fdistill.report.folder import Run
from fdistill.report.panels import Look, Plane
from fdistill.report.words import OBJECTIVES as WORDS
from fdistill.report.words import words

EVIL = "</dd><script>alert('x')</script> & \"quotes\" <img src=x onerror=1> ]]> {{ 7*7 }} \u202e"


def estimate(value: float, half: float = 0.1) -> dict[str, float]:
    return {"value": value, "low": value - half, "high": value + half}


def row(bleu: float, kl: float, **more: float) -> dict:
    numbers = {"bleu": bleu, "chrf": bleu, "ter": 100 - bleu, "sample_dist": 40}
    numbers |= {"r_llh": 10 + kl, "r_cvg": 12 + kl, "r_llh_token": 1.0, "r_cvg_token": 1.2}
    numbers |= {"kl": kl, "rkl": 2 * kl, "js": kl / 10, "tvd": kl / 5}
    numbers |= {"truth_kl": kl + 1, "producible": 90, "faithful": 80}
    return {name: estimate(value) for name, value in (numbers | more).items()}


@pytest.fixture
def metrics() -> dict:
    numbers = {
        "bleu": 60,
        "chrf": 70,
        "ter": 40,
        "teacher_dist": 35,
        "h_p": 9,
        "h_p_token": 0.9,
        "r_llh": 9,
        "r_cvg": 9,
    }
    numbers |= {"truth_kl": 0.5, "producible": 99, "faithful": 97}
    teacher = {name: estimate(value) for name, value in numbers.items()}
    students = {"mle": row(40, 3.0), "kl": row(50, 1.0), "rkl": row(49.95, 2.0, rkl=0.5), "js": row(45, 1.5)}
    return {"teacher": teacher, **students}


@pytest.fixture
def run(tmp_path, metrics):
    """A run's folder, as far as a report reads it."""
    evil = {
        "references": [EVIL],
        "outputs": dict.fromkeys(metrics, EVIL),
        "samples": {name: ["again", "", "again"] for name in metrics},
    }
    chat = [{"role": "user", "content": "hi\u2028there"}]
    lines = [json.dumps({"prompt": prompt, **evil}, ensure_ascii=False) + "\n" for prompt in (EVIL, chat)]
    curve = {"value": [0.1, 0.3], "low": [0.0, 0.2], "high": [0.2, 0.4]}
    losses = [{"step": 1, "loss": 3.0}, {"step": 2, "loss": 2.0}]
    curves = {"prefix": {"kl": {"js": curve, "tvd": curve}}, "training": {"teacher": losses}}
    (tmp_path / "plots").mkdir()
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    (tmp_path / "samples.jsonl").write_text("".join(lines))
    (tmp_path / "plots" / "curves.json").write_text(json.dumps(curves))
    (tmp_path / "environment.json").write_text(json.dumps({"seed": 7, "device": {"type": "cpu"}}))
    (tmp_path / "timing.json").write_text(json.dumps({"teacher": {"seconds": 1.5, "attempts": 1}}))
    (tmp_path / "recipe.yaml").write_text("seed: 7\n")
    return tmp_path


def cells(table: tables.Table, key: str) -> dict[str, tables.Cell]:
    index = [column.key for column in table.columns].index(key)
    return {name: found[index] for name, found in table.rows}


def test_best_and_second_are_of_students_in_the_metrics_own_direction(metrics):
    text = tables.text_table(metrics)
    assert {n: c.rank for n, c in cells(text, "bleu").items()} == {"teacher": 0, "mle": 0, "kl": 1, "rkl": 2, "js": 0}
    assert cells(text, "ter")["kl"].rank == 1  # the lowest
    risks = tables.risk_table(metrics)
    assert cells(risks, "r_cvg")["kl"].rank == 1 and cells(risks, "r_cvg")["js"].rank == 2
    assert all(cell.rank == 0 for cell in cells(risks, "dist").values())


def test_equal_as_shown_is_equal_in_rank():
    found = tables.text_table(
        {"a": {"bleu": estimate(50.001)}, "b": {"bleu": estimate(50.002)}, "c": {"bleu": estimate(1)}}
    )
    assert [cell.rank for cell in cells(found, "bleu").values()] == [1, 1, 2]


def test_table_three_reports_teacher_dist_and_entropy(metrics):
    table = tables.risk_table(metrics)
    assert "TeacherDist 35.00" in table.caption and "H(P) 9.00" in table.caption
    assert cells(table, "dist")["teacher"].text == "35.00" and cells(table, "dist")["kl"].text == "40.00"


def test_the_divergence_table_says_who_wins_its_own_column(metrics):
    table = tables.divergence_table(metrics)
    assert [name for name, _ in table.rows] == ["mle", "kl", "rkl", "js"]
    assert "KL: won by its own objective." in table.notes and "RKL: won by its own objective." in table.notes
    assert any(note.startswith("JS: kl comes before js") for note in table.notes)


def test_a_run_without_a_known_truth_has_three_tables(metrics):
    for name in metrics:
        metrics[name].pop("truth_kl"), metrics[name].pop("producible"), metrics[name].pop("faithful")
    assert len(tables.run_tables(metrics)) == 3


def test_claims_hold_only_where_intervals_are_apart(metrics):
    verdicts = {verdict.claim.text: verdict for verdict in claims.judge([metrics])}
    above = verdicts["The teacher writes better than the student that never saw it"]
    assert above.kind == "holds" and above.text.startswith(above.claim.text + ": holds. chrF: teacher 70 [69.9, 70.1]")
    metrics["rkl"]["kl"] = estimate(1.05)
    close = next(v for v in claims.judge([metrics]) if v.claim.metric == "kl" and v.claim.worse == "rkl")
    assert close.verdict == "not distinguishable at this size"
    metrics["rkl"]["kl"] = estimate(0.5)
    wrong = next(v for v in claims.judge([metrics]) if v.claim.metric == "kl" and v.claim.worse == "rkl")
    assert wrong.verdict == "the other way round here"


def test_advice_names_who_cannot_be_told_from_the_choice(metrics):
    found = {advice.purpose.metric: advice for advice in advise(metrics)}
    assert found["bleu"].choice == "kl, or as good at this size: rkl" and found["bleu"].why.startswith("BLEU: kl 50. ")
    assert found["kl"].choice == "kl" and found["rkl"].choice == "rkl"
    for row in ("mle", "kl", "rkl", "js"):
        metrics[row]["bleu"] = estimate(50)
    assert advise(metrics)[0].choice == "none stands out"


def test_every_objective_is_told_in_words_and_its_options_are_named():
    from fdistill.objectives import OBJECTIVES

    assert set(WORDS) == set(OBJECTIVES) and all(told.learns and told.does for told in WORDS.values())
    mine = words("mine", {"name": "mine", "objective": "js", "middle": "sequence"})
    assert mine.learns == f"{WORDS['js'].learns} With middle sequence." and mine.does == WORDS["js"].does


def test_the_crowd_of_the_plane_is_enlarged_only_where_outliers_hide_it(metrics):
    def plane(**risks: tuple[float, float]) -> Plane:
        rows = {name: {"r_llh": estimate(x), "r_cvg": estimate(y)} for name, (x, y) in risks.items()}
        return Plane(rows, Look(list(rows)))

    close = {"a": (9.0, 7.0), "b": (9.2, 7.1), "c": (9.4, 7.2), "d": (9.1, 7.3)}
    assert plane(**close, far=(45, 19)).crowd() == ["a", "b", "c", "d"]
    assert plane(**close).crowd() == [] and plane(a=(1, 1), b=(9, 9)).crowd() == []


def test_looks_differ_while_colours_and_markers_last():
    look = Look([str(i) for i in range(81)])
    assert len({(look.colour(row), look.marker(row)) for row in look.rows}) == 81


def test_markdown_and_latex_mark_best_and_second(metrics):
    table = tables.text_table(metrics)
    text = tables.markdown(table)
    assert "| kl | **50.00** ±0.10 |" in text and "<u>49.95</u>" in text
    assert len({line.count("|") for line in text.splitlines() if line.startswith("|")}) == 1
    tex = tables.latex(table)
    assert r"\textbf{50.00}" in tex and r"\underline{49.95}" in tex and "±" not in tex and "–" not in tex
    assert tex.count("{") == tex.count("}") and not re.search(r"(?<!\\)[%_#]", tex)


def test_missing_numbers_are_dashes(metrics):
    assert tables.Cell(None).text == "–" and tables.Cell(None).margin == ""
    assert "–" in tables.markdown(tables.risk_table({**metrics, "odd": {"bleu": estimate(1)}}))


class Tags(HTMLParser):
    """Collects what a browser would make of the page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.text += data


def test_the_page_escapes_what_models_wrote_and_needs_nothing_from_outside(run):
    page = write_report(run).read_text(encoding="utf-8")
    seen = Tags()
    seen.feed(page)
    assert "script" not in seen.tags and "img" not in seen.tags and "link" not in seen.tags
    assert EVIL in seen.text and "{{ 7*7 }}" in seen.text
    assert not [name for name, _ in seen.attributes if name.startswith("on")]
    sources = [value for name, value in seen.attributes if name in ("src", "href", "xlink:href", "data")]
    assert all(value.startswith("#") for value in sources)
    assert "prefers-color-scheme: dark" in page and 'name="viewport"' in page and "currentColor" in page


def test_the_page_has_all_its_parts_and_its_links_lead_somewhere(run):
    page = write_report(run).read_text(encoding="utf-8")
    parts = ["In one picture", "Who does what", "What this run shows", "What to choose", "Output quality (Table 2)"]
    for part in [*parts, "Likelihood and coverage", "Outputs side by side", "Do it again"]:
        assert part in page
    assert page.count("<figure>") == 4 and "seed: 7" in page and "hi\u2028there" in page
    assert "sampled 2 times: again" in page and "sampled: (nothing)" in page
    assert WORDS["js"].does in page
    for target in re.findall(r'href="#([\w-]+)"', page):
        assert f'id="{target}"' in page
    for svg in re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL):
        ElementTree.fromstring(svg)


def test_plots_and_tables_for_papers_are_written(run):
    write_report(run)
    for name in ("plane", "prefix", "truth", "training"):
        assert (run / "plots" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    text = (run / "report.md").read_text()
    assert text.count("### ") == 5 and "### What this run shows" in text
    assert (run / "report.tex").read_text().count(r"\begin{table}") == 4


def test_the_same_run_gives_the_same_page(run):
    first = write_report(run).read_text()
    assert write_report(run).read_text() == first


def test_a_run_with_metrics_alone_still_has_a_report(tmp_path, metrics):
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    page = write_report(tmp_path).read_text()
    assert "Output quality (Table 2)" in page and page.count("<figure>") == 2


def test_the_subtitle_counts_parameters_from_the_weights_themselves(run):
    import torch
    from safetensors.torch import save_file

    (run / "teacher").mkdir()
    save_file({"a": torch.zeros(1500, 1000), "b": torch.zeros(7)}, run / "teacher" / "model.safetensors")
    assert Run(run).parameters("teacher") == 1_500_007 and Run(run).parameters("students/kl") is None
    assert "One teacher of 1.5 million parameters and 4 students" in write_report(run).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["metrics.json", "samples.jsonl", "plots/curves.json", "environment.json"])
def test_a_damaged_file_is_named_with_what_to_do(run, name):
    (run / name).write_text('{"half": [1, 2')
    with pytest.raises(FDistillError, match=rf"{name} is damaged \(.*\)\. Delete it and run"):
        write_report(run)
    (run / name).write_bytes(b"\xff\xfe")
    with pytest.raises(FDistillError, match=rf"{name} is damaged \(not UTF-8\)"):
        write_report(run)


def test_a_folder_without_metrics_says_what_to_do(tmp_path):
    with pytest.raises(FDistillError, match=r"it has no metrics\.json. Run `fdistill evaluate` first"):
        write_report(tmp_path)
