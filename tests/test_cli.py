"""The command line: every verb explains itself, and bad usage is answered with exit code 2."""

import argparse
import importlib
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from ffa_sora_jax import __version__, cli

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "MODEL_CARD.md", *sorted((ROOT / "docs").glob("*.md"))]


def parser_of(verb):
    module = importlib.import_module(cli.VERBS[verb][0])
    parser = argparse.ArgumentParser(prog=f"ffa-sora {verb}")
    module.add_arguments(parser)
    return module, parser


@pytest.mark.parametrize("verb", sorted(cli.VERBS))
def test_every_verb_has_help(verb, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([*verb.split(), "--help"])
    assert stop.value.code == 0
    said = capsys.readouterr().out
    assert said.startswith(f"usage: ffa-sora {verb}") and len(said.splitlines()) > 3


def test_overview_names_every_verb(capsys):
    assert cli.main(["--help"]) == 0
    said = capsys.readouterr().out
    assert all(verb in said for verb in cli.VERBS)


def test_version(capsys):
    assert cli.main(["--version"]) == 0
    assert __version__ in capsys.readouterr().out


def test_an_unknown_verb_names_near_ones(capsys):
    assert cli.main(["smaple"]) == 2
    assert "Did you mean 'sample'" in capsys.readouterr().err


def test_no_verb_shows_the_overview_and_fails():
    assert cli.main([]) == 2


def test_an_unknown_option_is_refused():
    with pytest.raises(SystemExit) as stop:
        cli.main(["sample", "--report", "x", "--sede", "3"])
    assert stop.value.code == 2


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["sample", "--report", "x", "--weights", "nowhere"], "model_index.json"),
        (["sample", "--reports", "none.csv"], "none.csv"),
        (["train", "--config", "configs/none.py", "--workdir", "w"], "none.py"),
        (["convert", "nowhere", "--check"], "nowhere"),
        (["inspect", "--dataset", "phantom/64", "--data-dir", "nowhere"], "ffa-sora prepare"),
        (["export", "--workdir", "nowhere", "--output", "x"], "nowhere"),
        (["status", "--workdir", "nowhere"], "nowhere"),
    ],
)
def test_what_is_missing_is_named(argv, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(argv) == 2
    said = capsys.readouterr().err
    assert message in said and "Traceback" not in said


def test_a_file_that_cannot_be_written_is_no_traceback(tmp_path, capsys):
    (tmp_path / "scores.csv").write_text("case,ann\na,2\n")
    (tmp_path / "file").touch()
    output = str(tmp_path / "file" / "x.json")
    assert cli.main(["human", "scores", str(tmp_path / "scores.csv"), "--output", output]) == 2
    assert capsys.readouterr().err.startswith("ffa-sora human scores: ")


def test_ctrl_c_while_a_verb_loads_is_no_traceback(monkeypatch, capsys):
    def interrupted(name):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.importlib, "import_module", interrupted)
    assert cli.main(["sample", "--report", "x"]) == 1
    assert "run the same command again" in capsys.readouterr().err


def test_modules_and_console_script_are_the_same_program():
    for module in ("ffa_sora_jax", "ffa_sora_jax.cli"):
        done = subprocess.run(
            [sys.executable, "-m", module, "--version"],
            cwd=ROOT, capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert done.stdout.strip() == f"ffa-sora {__version__}"
    setup = (ROOT / "setup.py").read_text(encoding="utf-8")
    assert "ffa-sora = ffa_sora_jax.cli:main" in setup


def test_help_starts_without_jax():
    """The overview must not wait for jax to load."""
    code = "import sys; sys.modules['jax'] = None; from ffa_sora_jax import cli; cli.main(['-h'])"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True)


# --- The commands and the code that the pages show ---


def code_blocks(path, language):
    text = path.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def shown_commands():
    """Every `ffa-sora ...` line of the pages, of scripts and of the Makefile."""
    places = [(path, block) for path in PAGES for block in code_blocks(path, "(?:bash|sh)")]
    places += [(path, path.read_text("utf-8")) for path in sorted((ROOT / "launch").glob("*.sh"))]
    for path, text in places:
        joined = text.replace("\\\n", " ")
        for line in joined.splitlines():
            match = re.match(r"\s*(?:ffa-sora|python -m ffa_sora_jax)\s+(\w.*)", line)
            if match:
                yield pytest.param(match.group(1), id=f"{path.name}: {match.group(1)[:50]}")


@pytest.mark.parametrize("command", shown_commands())
def test_shown_commands_parse(command):
    argv = shlex.split(command, comments=True)
    argv = [part for part in argv if part not in ("&&", "\\")]
    verb = " ".join(argv[:2]) if " ".join(argv[:2]) in cli.VERBS else argv[0]
    module, parser = parser_of(verb)
    values = {"$DTYPE": "float32"}  # what shell variables stand for; others are paths or numbers
    options = [
        re.sub(r"\$\{?\w+\}?", "1", values.get(part, part))
        for part in argv[len(verb.split()) :]
        if not re.fullmatch(r"\$\w+_ARGS", part)  # further options
    ]
    _, rest = parser.parse_known_args(options)
    if getattr(module, "ACCEPTS_OVERRIDES", False):
        rest = [option for option in rest if not option.startswith("--config.")]
    assert not rest


@pytest.mark.parametrize(
    "code", [pytest.param(c, id=p.name) for p in PAGES for c in code_blocks(p, "python")]
)
def test_shown_python_compiles_and_its_names_exist(code):
    compile(code, "page", "exec")
    for module, names in re.findall(r"^from (ffa_sora_jax[\w.]*) import (.+)$", code, re.MULTILINE):
        loaded = importlib.import_module(module)
        for name in names.split(","):
            assert hasattr(loaded, name.split(" as ")[0].strip())


def test_shown_make_targets_exist():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    shown = {
        target
        for path in [*PAGES, ROOT / "CONTRIBUTING.md"]
        for block in code_blocks(path, "(?:bash|sh)")
        for target in re.findall(r"^make (\w+)", block, re.MULTILINE)
    }
    assert shown and shown <= targets


def test_links_of_the_pages_lead_somewhere():
    broken = []
    for path in [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]:
        for target in re.findall(r"\]\(([^)#\s]+)", path.read_text(encoding="utf-8")):
            if "://" not in target and not (path.parent / target).exists():
                broken.append(f"{path.name}: {target}")
    assert not broken, "\n".join(broken)


def test_the_index_of_the_pages_lists_them_all():
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert {name for name in pages if f"]({name})" not in index} == set()
