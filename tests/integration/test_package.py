"""The wheel, installed alone into a clean environment without torch, has both packages, its recipes and a working command."""

import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# What `fdistill objectives` needs; torch and transformers are not among it, and that is part of the test.
LIGHT = ["typer", "rich", "pydantic", "PyYAML"]


def run(*command: object, **kwargs) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **kwargs)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, ROOT)
    return out


def test_the_wheel_holds_both_packages_their_types_and_the_recipes(built):
    names = zipfile.ZipFile(next(built.glob("*.whl"))).namelist()
    for expected in (
        "fdistill/py.typed",
        "fdistill_reference/py.typed",
        "fdistill/recipes/e2e.yaml",
        "fdistill/cli/__init__.py",
    ):
        assert expected in names
    assert not [name for name in names if name.startswith(("tests/", "docs/"))]


def test_the_sdist_holds_the_tests_and_the_licence(built):
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        names = archive.getnames()
    inside = {name.split("/", 1)[1] for name in names if "/" in name}
    assert {
        "LICENSE",
        "README.md",
        "constraints.txt",
        "tests/conftest.py",
        "reference/fdistill_reference/models.py",
    } <= inside


@pytest.mark.slow
def test_a_clean_environment_runs_objectives(built, tmp_path):
    venv.create(tmp_path / "venv", with_pip=True)
    binaries = tmp_path / "venv" / "bin"
    pip = [binaries / "python", "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    run(*pip, "-c", ROOT / "constraints.txt", *LIGHT)
    run(*pip, "--no-deps", next(built.glob("*.whl")))
    table = run(binaries / "fdistill", "objectives", cwd=tmp_path)
    for name in ("mle", "seqkd", "engine", "rkl", "js", "tvd", "f_divergence"):
        assert name in table
    assert run(binaries / "fdistill", "--version", cwd=tmp_path).strip().endswith("0.1.0")
