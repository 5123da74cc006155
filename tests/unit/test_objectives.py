"""The table of objectives: what each one is made of, and what it refuses with which words."""

import subprocess
import sys

import pytest
import torch

from fdistill import OBJECTIVES, Objective, ObjectiveError, Prefix, Term, objective, sequence_loss, step_losses

TABLE = {
    "mle": [("data", "nll", 1.0)],
    "kd": [("data", "kl", 1.0)],
    "seqkd": [("teacher", "nll", 1.0)],
    "kl": [("teacher", "kl", 1.0)],
    "engine": [("student", "cross_entropy_to_teacher", 1.0)],
    "rkl": [("student", "reverse_kl", 1.0)],
    "js": [("teacher", "kl_to_middle", 0.5), ("student", "reverse_kl_to_middle", 0.5)],
    "tvd": [("teacher", "tvd", 0.5), ("student", "tvd", 0.5)],
}


@pytest.mark.parametrize("name", TABLE)
def test_an_objective_is_its_row_of_the_table(name):
    terms = [(term.source, term.function.name, term.weight) for term in objective(name).terms]
    assert terms == TABLE[name]


def test_the_table_is_whole():
    assert set(OBJECTIVES) == {*TABLE, "f_divergence"}


@pytest.mark.parametrize("name", TABLE)
def test_sources_and_teacher_needs(name):
    made = objective(name)
    assert made.sources == tuple(dict.fromkeys(source for source, _, _ in TABLE[name]))
    assert made.teacher_draws == ("beam" if name == "seqkd" else "sample")
    needs = {source: made.needs_teacher(source) for source in made.sources}
    assert all(needs.values()) == (name not in ("mle", "seqkd"))


def test_js_gives_the_teacher_its_weight():
    terms = objective("js", teacher_weight=0.3).terms
    assert [term.weight for term in terms] == pytest.approx([0.3, 0.7])


def test_the_token_middle_reads_no_prefix_and_the_sequence_middle_does():
    assert not objective("js").needs_prefix("teacher")
    assert objective("js", middle="sequence").needs_prefix("teacher")
    assert not objective("tvd").needs_prefix("student")
    assert objective("tvd", bound="overlap").needs_prefix("student")


REFUSALS = [
    ("kll", {}, "unknown objective 'kll'. Did you mean 'kl'?"),
    ("reverse_kl", {}, "called rkl"),
    ("hellinger", {}, "objective('f_divergence', generator='hellinger')"),
    ("kl", {"middle": "token"}, "has no option 'middle'"),
    ("js", {"teacher_wieght": 0.4}, "Did you mean 'teacher_weight'?"),
    ("js", {"teacher_weight": 1}, "use kl (teacher_weight near 0) or rkl (near 1)"),
    ("js", {"teacher_weight": 0.0}, "use kl (teacher_weight near 0) or rkl (near 1)"),
    ("tvd", {"teacher_weight": 1.0}, "teacher_weight 1"),
    ("js", {"teacher_weight": 1.5}, "a number from 0 to 1, not 1.5"),
    ("js", {"middle": "sequense"}, "Did you mean 'sequence'?"),
    ("js", {"middle": 2}, "a number from 0 to 1"),
    ("js", {"memory": -0.1}, "memory is a number from 0 to 1"),
    ("js", {"clip": -1}, "clip is a bound"),
    ("js", {"estimator": "balance"}, "estimator 'balance' is refused here"),
    ("js", {"estimator": "teacher", "middle": 0.5}, "estimator 'teacher' is refused here"),
    ("js", {"estimator": "teacher", "middle": "sequence", "memory": 0.5}, "memory 1"),
    ("js", {"estimator": "studnet", "middle": "sequence"}, "Did you mean 'student'?"),
    ("tvd", {"bound": "papper"}, "Did you mean 'paper'?"),
    ("tvd", {"estimator": "teacher"}, "only where it is 'overlap' or 'product'"),
    ("tvd", {"estimator": "balance", "bound": "product"}, "needs bound 'overlap'"),
    ("f_divergence", {}, "needs generator="),
    ("f_divergence", {"generator": "helinger"}, "Did you mean 'hellinger'?"),
    ("f_divergence", {"generator": "kl", "estimator": "halves"}, "no form as two halves"),
    ("f_divergence", {"generator": "alpha", "alpha": 1.0}, "use generator kl instead"),
    ("f_divergence", {"generator": "skew_kl", "alpha": 1.0}, "strictly between 0 and 1"),
    ("f_divergence", {"generator": "kl", "alpha": 0.5}, "does not take alpha"),
    ("f_divergence", {"generator": lambda t: t - 2}, "f(1) = -1"),
    ("f_divergence", {"generator": lambda t: -(t - 1).square()}, "is not convex"),
    ("kl", {"gradient": "exact"}, "gradient is 'stepwise' or 'full'"),
    ("js", {"gradient": ("stepwise", "full")}, "cannot move during training"),
]


@pytest.mark.parametrize(("name", "options", "words"), REFUSALS)
def test_a_refusal_is_one_line_that_says_what_to_do(name, options, words):
    with pytest.raises(ObjectiveError) as refusal:
        objective(name, **options)
    assert words in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_memory_with_balance_is_a_heuristic_and_allowed():
    assert objective("js", middle="sequence", memory=0.5, estimator="balance").sources == ("teacher", "student")


def test_a_schedule_moves_with_progress():
    made = objective("js", middle=(0.0, 1.0), teacher_weight=(0.2, 0.4))
    assert made.at(0.0).terms[0].weight == pytest.approx(0.2)
    assert made.at(0.5).terms[0].weight == pytest.approx(0.3)
    prefix = Prefix(*(torch.full((1, 1), 2.0) for _ in range(3)))
    prior = float(torch.logit(torch.tensor(0.4)))
    assert float(made.at(1.0).terms[0].log_odds(prefix)) == pytest.approx(prior + 2.0)
    assert made.at(2.0).terms[0].weight == made.at(1.0).terms[0].weight


def test_a_schedule_is_refused_where_one_end_is():
    with pytest.raises(ObjectiveError):
        objective("js", middle=(0.0, 1.0), estimator="balance")


def test_state_dict_makes_the_same_again():
    made = objective("js", middle=(0.0, 0.5), memory=0.9)
    state = made.state_dict()
    again = objective(state["name"], **state["options"])
    assert [term.weight for term in again.terms] == [term.weight for term in made.terms]
    with pytest.raises(ObjectiveError, match="custom"):
        Objective((Term("teacher", "kl"),)).state_dict()
    with pytest.raises(ObjectiveError, match="is a function"):
        objective("f_divergence", generator=lambda t: t * t.log()).state_dict()


def test_an_objective_of_ones_own_is_a_sum_of_terms():
    noise = torch.Generator().manual_seed(0)
    batch = {
        "student_logits": torch.randn(2, 3, 5, generator=noise),
        "teacher_logits": torch.randn(2, 3, 5, generator=noise),
        "tokens": torch.zeros(2, 3, dtype=torch.long),
        "mask": torch.ones(2, 3, dtype=torch.bool),
    }

    def squares(log_p, log_q):
        return (log_p.exp() - log_q.exp()).square().sum(-1)

    made = Objective(
        (Term("teacher", "kl", 0.3), Term("teacher", squares, prefix_weight=lambda s: 2 + 0 * s.log_ratio))
    )
    steps = step_losses(made, "teacher", **batch)
    kl = step_losses(objective("kl"), "teacher", **batch)
    p, q = (batch[f"{who}_logits"].softmax(-1) for who in ("teacher", "student"))
    assert torch.allclose(steps, 0.3 * kl + 2 * (p - q).square().sum(-1), atol=1e-6)
    output = sequence_loss(made, "teacher", **batch)
    assert set(output.terms) == {"teacher/kl", "teacher/squares"}
    assert torch.allclose(output.loss, sum(output.terms.values()))


def test_a_source_without_a_term_is_zero_and_an_unknown_one_is_refused():
    batch = {
        "student_logits": torch.zeros(1, 2, 3, requires_grad=True),
        "tokens": torch.zeros(1, 2, dtype=torch.long),
        "mask": torch.ones(1, 2, dtype=torch.bool),
    }
    assert (step_losses(objective("kl"), "student", **batch) == 0).all()
    with pytest.raises(ObjectiveError, match="Did you mean 'teacher'"):
        step_losses(objective("kl"), "teachr", **batch)
    with pytest.raises(ObjectiveError, match="needs teacher_logits on teacher prefixes"):
        step_losses(objective("kl"), "teacher", **batch)


def test_a_term_that_mixes_needs_log_odds():
    with pytest.raises(ObjectiveError, match="needs log_odds="):
        Term("teacher", "js")


def test_asking_for_an_objective_loads_neither_torch_nor_transformers():
    code = "import sys, fdistill; fdistill.objective('js', middle='sequence'); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"
