"""The command line as a person meets it: fast help, one clear line for bad input, results on stdout and all else on stderr."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fdistill.cli import run
from fdistill.cli.display import Display, _clock

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'reference'}", "OMP_NUM_THREADS": "1"}
HEAVY = ("torch", "transformers", "datasets", "matplotlib", "scipy")
COMMANDS = [
    "demo",
    "run",
    "teacher",
    "sample",
    "predistill",
    "train",
    "evaluate",
    "report",
    "depth",
    "significance",
    "verify",
    "data",
    "objectives",
    "env",
    "status",
]


@pytest.mark.parametrize(
    "arguments, code",
    [
        (["--help"], 0),
        (["--version"], 0),
        (["objectives"], 0),
        (["run", "--help"], 0),
        (["run", "restaurants", "--set", "trainin.max_steps=1"], 2),
        (["run", "restaurants", "--set", "objectives=kll"], 2),
        (["status", "nowhere"], 2),
    ],
)
def test_light_commands_import_nothing_heavy_and_answer_within_a_second(arguments, code):
    script = (
        "import sys, time; start = time.process_time()\n"
        "from fdistill.cli import run\n"
        f"code = run({arguments!r}); seconds = time.process_time() - start\n"
        f"heavy = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "print(f'{code} {heavy} {seconds}', file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], env=ENVIRONMENT, capture_output=True, text=True, check=True)
    found_code, heavy, seconds = done.stderr.splitlines()[-1].split(" ")
    assert (int(found_code), heavy) == (code, "[]")
    assert float(seconds) < 1  # of this process alone: what else the machine does is not measured


def test_text_is_read_without_importing_anything_heavy():
    script = (
        "import sys; from fdistill.cli import run; run(['data', 'restaurants', '--split', 'test'])\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], env=ENVIRONMENT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    "arguments, line",
    [
        (["run", "restaurant"], "there is no recipe 'restaurant'. Did you mean 'restaurants'?"),
        (["run", "/nowhere/x.yaml"], "recipe /nowhere/x.yaml: cannot be read: No such file or directory."),
        (
            ["run", "restaurants", "--set", "training.max_stepz=3"],
            "training.max_stepz. Did you mean training.max_steps?",
        ),
        (["run", "restaurants", "--set", "trainign.max_steps=3"], "unknown key trainign. Did you mean training?"),
        (["run", "restaurants", "--set", "objectives=jss"], "unknown objective 'jss'. Did you mean 'js'?"),
        (["data", "e2e", "--split", "train"], "data.train is not set"),
        (["data", "e2e", "--set", "data.train=/nowhere.csv", "--split", "train"], "/nowhere.csv"),
        (["data", "restaurants", "--split", "tset"], "there is no split 'tset'"),
        (["run"], "missing argument 'RECIPE'"),
        (["rum"], "no such command 'rum'"),
        (["demo", "--nope"], "no such option: --nope"),
        (["verify", "--as", "js"], "belong to --loss"),
        (["verify", "--loss", "math:exp"], "--loss needs --as"),
        (["verify", "--dtype", "float23"], "unknown dtype 'float23'"),
        (["status", "/nowhere"], "there is no run in /nowhere"),
    ],
)
def test_bad_input_gets_one_clear_line_and_exit_code_two(arguments, line, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = run(arguments)
    captured = capsys.readouterr()
    assert code in (1, 2) if "dtype" in line else code == 2
    assert captured.out == "" and line in captured.err and len(captured.err.strip().splitlines()) == 1
    assert "Traceback" not in captured.err


def test_help_names_every_command(capsys):
    assert run(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(command in text for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command, capsys):
    assert run([command, "--help"]) == 0
    assert len(capsys.readouterr().out) > 100


@pytest.mark.parametrize("command", ["run", "sample", "predistill", "train", "evaluate", "report", "data", "demo"])
def test_every_command_with_a_recipe_takes_set(command, capsys):
    run([command, "--help"])
    assert "--set" in capsys.readouterr().out


def test_version_and_module_entry():
    import fdistill

    done = subprocess.run(
        [sys.executable, "-m", "fdistill", "--version"], env=ENVIRONMENT, capture_output=True, text=True
    )
    assert done.stdout.strip() == f"fdistill {fdistill.__version__}" and done.returncode == 0


def test_objectives_as_table_and_as_json(capsys):
    from fdistill.objectives import OBJECTIVES

    run(["objectives"])
    table = capsys.readouterr().out
    assert all(f"\n{name} " in table for name in OBJECTIVES)
    run(["objectives", "--json"])
    assert set(json.loads(capsys.readouterr().out)) == set(OBJECTIVES)


def test_tables_are_never_cut_without_a_terminal():
    longest = "generator, at_zero, slope_at_infinity, alpha, teacher_weight, estimator, gradient"
    done = subprocess.run(
        [sys.executable, "-m", "fdistill", "objectives"],
        env={**ENVIRONMENT, "COLUMNS": "40"},
        capture_output=True,
        text=True,
    )
    assert longest in done.stdout and "…" not in done.stdout and "\x1b" not in done.stdout


def test_data_prints_statistics_of_every_split_or_lines_of_one(capsys):
    assert run(["data", "restaurants", "--limit", "7"]) == 0
    captured = capsys.readouterr()
    assert captured.out.split()[:3] == ["train", "validation", "test"] and "references per input" in captured.out
    assert run(["data", "restaurants", "--split", "test", "--limit", "3", "--jsonl"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 3 and {"prompt", "completion", "references"} == set(lines[0])


def test_data_counts_tokens_and_what_training_would_truncate(capsys):
    short = [
        "--set",
        "data.train=60",
        "--set",
        "training.max_completion_length=5",
        "--set",
        "training.max_prompt_length=500",
    ]
    assert run(["data", "restaurants", "--split", "train", "--tokens", *short]) == 0
    rows = {line[:60].strip(): line.split()[-1] for line in capsys.readouterr().out.splitlines()}
    shares = {name: value for name, value in rows.items() if name.startswith("truncated")}
    assert shares == {"truncated: prompt": "0.0%", "truncated: completion": "100.0%"}
    assert any(name.startswith("completion: tokens") for name in rows)


def test_env_is_machine_readable(capsys):
    assert run(["env", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {"fdistill", "python", "platform", "packages", "device"} <= set(found) and "torch" in found["packages"]


def test_verify_prints_every_property_and_says_how_many_hold(capsys):
    assert run(["verify", "--json"]) == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert found["passed"] and len(found["properties"]) >= 5


def test_completion_scripts_are_there():
    for shell, word in (("bash", "complete"), ("zsh", "compdef")):
        environment = {**ENVIRONMENT, "_FDISTILL_COMPLETE": f"source_{shell}"}
        done = subprocess.run([sys.executable, "-m", "fdistill"], env=environment, capture_output=True, text=True)
        assert word in done.stdout


def test_a_shell_completes_commands_options_and_recipes():
    for typed, offered in (("da", ["data"]), ("demo --se", ["--seed", "--set"]), ("run re", ["restaurants"])):
        words = f"fdistill {typed}"
        completing = {"_FDISTILL_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": f"{words.count(' ')}"}
        command = [sys.executable, "-m", "fdistill"]
        done = subprocess.run(command, env={**ENVIRONMENT, **completing}, capture_output=True, text=True)
        assert set(offered) <= set(done.stdout.split()) and "xsum" not in done.stdout


@pytest.mark.parametrize(
    "error, code, line",
    [
        (OSError(28, "No space left on device", "runs/x"), 2, "the disk is full: runs/x. Free some space"),
        (PermissionError(13, "Permission denied", "runs/x"), 2, "permission denied: runs/x."),
        (KeyboardInterrupt(), 130, "interrupted. The same command goes on where it stopped."),
    ],
)
def test_what_the_system_refuses_and_interruptions_get_one_line(error, code, line, capsys, monkeypatch):
    def fail(*_):
        raise error

    monkeypatch.setattr("fdistill.recipe.load_recipe", fail)
    assert run(["data", "restaurants"]) == code
    assert capsys.readouterr().err.startswith(f"fdistill: {line}")


def test_a_closed_pipe_is_no_error():
    command = f"{sys.executable} -m fdistill data restaurants --split train --jsonl | head -1"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"], env=ENVIRONMENT, capture_output=True, text=True
    )
    assert done.stdout.count("\n") == 1 and "Traceback" not in done.stderr


def test_without_a_terminal_progress_is_lines_on_stderr_with_the_time_left(capsys, monkeypatch):
    monkeypatch.setattr("fdistill.cli.display.SECONDS_BETWEEN_LINES", 0.0)
    display = Display()
    display.plan({"teacher": 1.0, "store": 1.0})
    with display.running(), display.step("teacher", "training the teacher") as update:
        for done in range(4):
            update(done, 10)
            time.sleep(0.02)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "[1/2] training the teacher" in captured.err and "3/10, 0:00 left" in captured.err


def test_on_a_terminal_there_are_bars_for_the_step_and_the_run(monkeypatch):
    import io

    from rich.console import Console

    stream = io.StringIO()
    display = Display(Console(file=stream, force_terminal=True, width=100))
    with display.running():
        display.plan({"a": 1.0, "b": 3.0})
        with display.step("a", "training a") as update:
            update(1, 2)
            time.sleep(0.3)
    text = stream.getvalue()
    assert "training a" in text and "whole run" in text and "1/2" in text


@pytest.mark.parametrize("seconds, text", [(0.2, "0:00"), (62, "1:02"), (3671, "1:01:11")])
def test_time_left_is_written_as_people_read_it(seconds, text):
    assert _clock(seconds) == text
