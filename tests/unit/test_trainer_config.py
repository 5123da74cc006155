"""FDistillConfig: defaults, refusals as a person reads them, and a round trip as plain data."""

from __future__ import annotations

import json

import pytest

from fdistill.errors import FDistillError, ObjectiveError, TrainingError
from fdistill.objectives import Objective, Term
from fdistill.predistill import PredistillConfig
from fdistill.trainer import FDistillConfig


def make(tmp_path, **options):
    return FDistillConfig(output_dir=str(tmp_path), report_to="none", use_cpu=True, **options)


def test_defaults_are_those_of_the_paper(tmp_path):
    args = make(tmp_path)
    assert (args.objective, args.reduction, args.num_student_samples) == ("js", "sequence", 1)
    assert (args.temperature, args.top_k, args.top_p) == (1.0, 0, 1.0)
    assert args.disable_dropout and args.verify and args.remove_unused_columns is False
    assert args.make_objective().sources == ("teacher", "student")


@pytest.mark.parametrize(
    ("options", "error", "line"),
    [
        ({"objective": "j"}, ObjectiveError, "unknown objective 'j'. Did you mean 'js'?"),
        ({"objective": "js", "objective_options": {"midle": 1}}, ObjectiveError, "Did you mean 'middle'?"),
        ({"reduction": "mean"}, TrainingError, "reduction is 'sequence' or 'token', not 'mean'."),
        ({"temperature": 0}, TrainingError, "temperature is a number at least 1e-06, not 0."),
        ({"top_p": 1.5}, TrainingError, "top_p is a number from 1e-06 to 1, not 1.5."),
        ({"top_k": -1}, TrainingError, "top_k is a whole number at least 0, not -1."),
        ({"max_completion_length": 0}, TrainingError, "max_completion_length is a whole number at least 1, not 0."),
        ({"max_prompt_length": 0}, TrainingError, "max_prompt_length is a whole number at least 1, not 0."),
        ({"num_student_samples": 1.5}, TrainingError, "num_student_samples is a whole number at least 1, not 1.5."),
        ({"compile_loss": "yes"}, TrainingError, "compile_loss is true, false or none, not 'yes'."),
        ({"baseline": "mean"}, TrainingError, "baseline is none or 'leave_one_out', not 'mean'."),
        ({"baseline": "leave_one_out"}, TrainingError, "num_student_samples is 1; set it to 2 or more."),
    ],
)
def test_what_cannot_be_meant_is_refused_at_once(tmp_path, options, error, line):
    with pytest.raises(error) as caught:
        make(tmp_path, **options)
    assert isinstance(caught.value, FDistillError)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_objective_of_the_users_own_is_taken_and_written_by_name(tmp_path):
    own = Objective((Term("data", "kl", 0.5), Term("data", "nll", 0.5)))
    args = make(tmp_path, objective=own)
    assert args.make_objective() is own
    assert json.loads(args.to_json_string())["objective"] == "custom"
    with pytest.raises(TrainingError, match="this one is already made"):
        make(tmp_path, objective=own, objective_options={"gradient": "full"})


def test_options_are_written_as_plain_data(tmp_path):
    def total_variation(t):
        return (t - 1).abs() / 2

    args = make(tmp_path, objective="f_divergence", objective_options={"generator": total_variation})
    assert json.loads(args.to_json_string())["objective_options"] == {"generator": "total_variation"}
    scheduled = make(tmp_path, objective_options={"middle": (0.0, 1.0)})
    assert json.loads(scheduled.to_json_string())["objective_options"] == {"middle": [0.0, 1.0]}


def test_options_may_come_as_json_text(tmp_path):
    args = make(tmp_path, objective_options='{"middle": "sequence"}')
    assert args.make_objective().options == {"middle": "sequence"}


def test_a_command_line_parser_reads_the_settings(tmp_path):
    from transformers import HfArgumentParser

    words = ["--output_dir", str(tmp_path), "--objective", "tvd", "--reduction", "token", "--report_to", "none"]
    (args,) = HfArgumentParser(FDistillConfig).parse_args_into_dataclasses(words)
    assert (args.objective, args.reduction) == ("tvd", "token")


def test_predistillation_needs_something_to_train(tmp_path):
    with pytest.raises(TrainingError, match="alpha_ce, alpha_mlm and alpha_hid are all 0"):
        PredistillConfig(output_dir=str(tmp_path), alpha_ce=0, alpha_mlm=0, alpha_hid=0)
    with pytest.raises(TrainingError, match="alpha_hid is a number at least 0, not -1"):
        PredistillConfig(output_dir=str(tmp_path), alpha_hid=-1)
