"""`fdistill run` of the paper's recipes: a few examples in the original formats, tiny models of the same architectures."""

import json
import math

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

from fdistill.cli import run
from fdistill.models import adapter_for, linear_logits, load_tokenizer, special_tokens, tokenize_example
from fdistill.recipe import load_recipe
from fdistill.store import TeacherStore
from fdistill.tasks import load_split
from fdistill.trainer import FDistillConfig, FDistillTrainer
from tests.hub_kit import DATA, TEACHERS, dart_xml, smollm2_folder

ROWS = ["teacher", "mle", "predistilled", "seqkd", "js"]
BRIEF = {"max_steps": 2, "warmup_steps": 0, "max_prompt_length": 40, "max_completion_length": 10, "logging_steps": 1}
TRAINED = {"dart", "wmt16-en-ro", "commonsense-dialogue"}  # XSum's teacher comes fine-tuned from the hub


def brief(sections=("teacher.training", "predistill.training", "training")):
    """Overrides that make every training two steps."""
    pairs = [f"{section}.{key}={value}" for section in sections for key, value in BRIEF.items()]
    return [*pairs, "evaluation.draws=2", "evaluation.bootstrap=5"]


def command(name, settings):
    """`fdistill run NAME --set …`, in this process."""
    return run(["run", name, "--no-verify", *(part for pair in settings for part in ("--set", pair))])


@pytest.fixture(scope="module", params=list(DATA))
def finished(request, tmp_path_factory):
    """A recipe's name, its run's folder and its teacher as the hub gave it."""
    name = request.param
    folder = tmp_path_factory.mktemp(name)
    data = DATA[name][1](folder / DATA[name][0])
    test = dart_xml(folder / "test.xml") if name == "dart" else data
    examples = load_split(load_recipe(name, [f"data.train={data}"]).data, "train")
    hub = TEACHERS[name](folder / "hub", [text for e in examples for text in (e.prompt, e.completion)])
    sections = ("teacher.training",) * (name in TRAINED) + ("predistill.training", "training")
    settings = [
        f"data.train={data}",
        f"data.validation={data}",
        f"data.test={test}",
        f"output={folder / 'run'}",
        f"teacher.model={hub}",
        "objectives=mle,seqkd,js",
        "training.metric_for_best_model=chrf",
        *brief(sections),
    ]
    assert command(name, settings) == 0
    return name, folder / "run", hub


def model_in(folder, name):
    kind = AutoModelForCausalLM if name == "commonsense-dialogue" else AutoModelForSeq2SeqLM
    return kind.from_pretrained(folder).eval()


def test_every_row_is_scored_and_reported(finished):
    _, folder, _ = finished
    metrics = json.loads((folder / "metrics.json").read_text())
    assert list(metrics) == ROWS
    assert all(math.isfinite(estimate["value"]) for row in metrics.values() for estimate in row.values())
    assert metrics["js"]["kl"]["value"] > 0 and (folder / "report.html").exists() and (folder / "report.tex").exists()


def test_the_teacher_is_fine_tuned_where_the_paper_does_it(finished):
    name, folder, hub = finished
    before, after = model_in(hub, name).state_dict(), model_in(folder / "teacher", name).state_dict()
    changed = [key for key in before if not torch.equal(before[key], after[key])]
    assert bool(changed) == (name in TRAINED)


def test_students_have_the_papers_depth_and_the_teachers_quirks(finished):
    name, folder, _ = finished
    teacher = model_in(folder / "teacher", name)
    depths = {"dart": (3, 1), "xsum": (3, 3), "wmt16-en-ro": (3, 1), "commonsense-dialogue": (None, 4)}
    for row in ("predistilled", "students/mle", "students/js"):
        student = model_in(folder / row, name)
        assert layers(student) == depths[name], row
        assert student.get_input_embeddings().weight is student.get_output_embeddings().weight
        assert special_tokens(student) == special_tokens(teacher)
        if name in ("dart", "xsum"):
            assert special_tokens(student).forced == (0,) and student.generation_config.forced_eos_token_id == 2
            assert torch.equal(student.final_logits_bias, teacher.final_logits_bias)
            assert teacher.final_logits_bias.abs().max() > 0
        if name == "wmt16-en-ro":
            assert special_tokens(student).start == 0
            hidden = torch.randn(1, 2, 16)
            head = linear_logits(student, hidden)
            assert head.scale == 0.25  # d_model^-½: a tied head of T5 is scaled


def layers(model):
    config = model.config
    if not config.is_encoder_decoder:
        return None, config.num_hidden_layers
    if config.model_type == "t5":
        return config.num_layers, config.num_decoder_layers
    return config.encoder_layers, config.decoder_layers


def test_embeddings_stay_the_teachers_while_pre_distilling(finished):
    name, folder, _ = finished
    teacher, student = (
        model_in(folder / row, name).get_input_embeddings().weight for row in ("teacher", "predistilled")
    )
    assert torch.equal(teacher, student)


def test_stored_completions_hold_what_was_drawn_and_nothing_that_was_given(finished):
    _, folder, _ = finished
    store, tokenizer = TeacherStore.open(folder / "store"), load_tokenizer(folder / "teacher")
    assert set(store.kinds) == {"sample", "beam"}
    for index in range(store.examples):
        tokens = [int(token) for token in store.get(index, 0, "sample").tokens]
        assert 1 <= len(tokens) <= 10 and max(tokens) < len(tokenizer)
        assert tokenizer.eos_token_id not in tokens[:-1]  # GPT-2's also pads: it still counts once, at the end
        assert len(store.get(index, 0, "sample").log_probs) == len(tokens)


def test_models_are_selected_by_what_they_write_on_the_validation_data(finished):
    _, folder, _ = finished
    history = json.loads((folder / "checkpoints" / "students" / "js" / "history.json").read_text())
    assert any("eval_chrf" in line and "eval_loss" in line for line in history)


PROMPTS = {
    "dart": "Mars Hill College : joined : 1973",
    "xsum": "Mars Hill College was in the news. A school named Mars Hill College joined in 1973. People spoke about 1973.",
    "wmt16-en-ro": "translate English to Romanian: The house is large.",
    "commonsense-dialogue": "Ann lost her keys.<|endoftext|>",
}


def test_texts_are_written_as_the_authors_write_them(finished):
    name, folder, _ = finished
    lines = [json.loads(line) for line in (folder / "samples.jsonl").read_text().split("\n") if line]
    assert lines[0]["prompt"] == PROMPTS[name]
    if name == "commonsense-dialogue":
        assert lines[2]["prompt"] == (
            "Ann lost her keys.<|endoftext|>I cannot find my keys.<|endoftext|>Look under the table.<|endoftext|>"
        )
        assert lines[2]["references"] == ["There they are!"]


def test_triples_are_joined_by_bars_and_have_a_readable_variant(tmp_path):
    data = DATA["dart"][1](tmp_path / "entries.json")
    paper, readable = (
        load_split(load_recipe("dart", [f"data.train={data}", *more]).data, "train")[3].prompt
        for more in ([], ["data.linearisation=readable"])
    )
    assert paper == "Kettle : foodtype : Thai | Kettle : price_range : low"
    assert readable == "Kettle, food type: Thai; Kettle, price range: low"


def test_a_dialogues_loss_counts_the_response_and_its_end_alone(tmp_path):
    """A loss that also counted the history, or an end that pads, or logits off by one, would differ."""
    data = DATA["commonsense-dialogue"][1](tmp_path / "dialogues.json")
    examples = load_split({"format": "commonsense-dialogue", "train": str(data)}, "train")
    hub = TEACHERS["commonsense-dialogue"](tmp_path / "hub", [e.prompt + e.completion for e in examples])
    model, tokenizer = model_in(hub, "commonsense-dialogue"), load_tokenizer(hub)
    rows = [{"prompt": e.prompt, "completion": e.completion} for e in examples]
    args = FDistillConfig(
        output_dir=str(tmp_path), objective="mle", reduction="token", report_to="none", verify=False, disable_tqdm=True
    )
    trainer = FDistillTrainer(model=model, args=args, eval_dataset=rows, processing_class=tokenizer)
    found = trainer.evaluate()["eval_loss"]
    total, count = 0.0, 0
    for row in rows:
        history = tokenizer(row["prompt"])["input_ids"]
        response = tokenizer(row["completion"])["input_ids"] + [tokenizer.eos_token_id]
        labels = torch.tensor([[-100] * len(history) + response])
        with torch.no_grad():
            loss = type(model).forward(model, input_ids=torch.tensor([history + response]), labels=labels).loss
        total, count = total + float(loss) * len(response), count + len(response)
        assert history[-1] == tokenizer.eos_token_id
        assert tokenize_example(tokenizer, adapter_for(model), **row) == (history, response)
    assert found == pytest.approx(total / count, rel=1e-5)


TINY = {
    "bart": {
        "d_model": 16,
        "encoder_layers": 3,
        "encoder_ffn_dim": 16,
        "decoder_ffn_dim": 16,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
    },
    "t5": {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_heads": 2},
    "gpt2": {"n_embd": 16, "n_head": 2},
}


@pytest.mark.parametrize("name", list(DATA))
def test_small_twins_are_built_from_config_and_run(name, tmp_path):
    data = DATA[name][1](tmp_path / DATA[name][0])
    family = load_recipe(f"{name}-small").teacher.config["model_type"]
    assert family == load_recipe_family(name)
    settings = [
        f"data.train={data}",
        *([] if name == "commonsense-dialogue" else [f"data.test={data}"]),
        f"output={tmp_path / 'run'}",
        "tokenizer.vocab_size=290",
        "objectives=kl",
        *(f"teacher.config.{key}={value}" for key, value in TINY[family].items()),
        *brief(),
    ]
    assert command(f"{name}-small", settings) == 0
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert list(metrics) == ["teacher", "predistilled", "kl"]
    if name == "commonsense-dialogue":  # the history's turns end with this tokenizer's own end of text
        line = json.loads((tmp_path / "run" / "samples.jsonl").read_text().split("\n")[0])
        tokenizer = load_tokenizer(tmp_path / "run" / "teacher")
        ids = tokenizer(line["prompt"])["input_ids"]
        assert line["prompt"].endswith("</s>") and ids[-1] == tokenizer.eos_token_id


def load_recipe_family(name):
    """The architecture of the recipe's teacher on the hub."""
    teacher = load_recipe(name).teacher.model
    return "bart" if "bart" in teacher else "t5" if "t5" in teacher else "gpt2"


def test_smollm2_learns_from_what_its_teacher_writes(tmp_path):
    """No reference anywhere: prompts are built in, completions come from the store, scores from both models."""
    prompts = [e.prompt[0]["content"] for e in load_split(load_recipe("smollm2", ["data.train=20"]).data, "train")]
    hub = smollm2_folder(tmp_path / "hub", prompts)
    settings = [
        f"output={tmp_path / 'run'}",
        f"teacher.model={hub}",
        "data.train=12",
        "data.test=4",
        "objectives=kl,tvd",
    ]
    assert command("smollm2", [*settings, "student.decoder_layers=3", *brief(("predistill.training", "training"))]) == 0
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert list(metrics) == ["teacher", "predistilled", "kl", "tvd"]
    assert {"kl", "rkl", "js", "tvd", "r_llh", "r_cvg", "distinct2"} <= set(metrics["tvd"])
    assert not {"bleu", "chrf", "rouge1"} & set(metrics["teacher"])
    line = json.loads((tmp_path / "run" / "samples.jsonl").read_text().split("\n")[0])
    assert line["prompt"][0]["role"] == "user" and line["references"] == []
    history = json.loads((tmp_path / "run" / "checkpoints" / "predistilled" / "history.json").read_text())
    assert {"loss/data_kl", "loss/data_nll", "loss/hidden_decoder"} <= set(history[0])
    student = AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "predistilled")
    assert student.config.num_hidden_layers == 3 and student.config.tie_word_embeddings


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["objectives=mle,kl"], "objectives has mle, which learns from the data's completions"),
        (["predistill.text=data"], "set predistill.text to teacher"),
        (["teacher.training.max_steps=2"], "teacher.training has nothing to learn from"),
        (["data.train=FILE"], "train must be a number of examples for the format instructions"),
    ],
)
def test_what_needs_completions_is_refused_where_there_are_none(settings, said, capsys):
    assert command("smollm2", settings) == 2
    assert said in " ".join(capsys.readouterr().err.split())
