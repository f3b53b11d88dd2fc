"""moultd's settings: the code, the manual and the example file have the same ones; mistakes are named."""

import pathlib
import re
import subprocess
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))

import moult  # noqa: E402

EXAMPLE = moult.TOP / "host-service/moultd.conf"
MANUAL = (moult.TOP / "docs/man/moultd.8").read_text()
NO_SETTINGS = {"help", "config", "check-config", "version"}


def run(*words):
    done = subprocess.run([moult.MOULTD, *map(str, words)], check=False, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


def options():
    """Of the code, from --help."""
    code, out, _ = run("--help")
    assert code == 0
    return set(re.findall(r"--([a-z][a-z0-9-]*)", out)) - {"help-all"}


def settings(text):
    """name -> value ("" if there is none) of a file in which defaults are commented out."""
    found = re.findall(r"^#?([a-z][a-z0-9-]*) =[ ]?(.*)$", text, re.MULTILINE)
    assert len(found) == len(dict(found)), "a setting is there twice"
    return dict(found)


def test_the_example_has_every_setting_with_its_default(tmp_path):
    (tmp_path / "empty").write_text("")
    code, out, err = run("--check-config", "--config", tmp_path / "empty")
    assert code == 0, err
    assert settings(EXAMPLE.read_text()) == settings(out)
    assert settings(out).keys() == options() - NO_SETTINGS


def test_the_example_can_be_used_as_it_is_and_with_its_examples(tmp_path):
    assert run("--check-config", "--config", EXAMPLE)[0] == 0
    text = re.sub(r"^# example: ", "", EXAMPLE.read_text(), flags=re.MULTILINE)
    text = re.sub(r"^#([a-z0-9-]+ = .+)$", r"\1", text, flags=re.MULTILINE)
    (tmp_path / "all").write_text(text)
    code, out, err = run("--check-config", "--config", tmp_path / "all")
    assert code == 0, err
    assert "#" not in out and "api-listen = 10.0.0.1:7444" in out


def test_the_manual_has_every_option_and_no_other():
    described = set(re.findall(r"^\.It (?:Fl . , |Fl )-([a-z0-9-]+)", MANUAL, re.MULTILINE))
    synopsis = MANUAL[MANUAL.index(".Sh SYNOPSIS"):MANUAL.index(".Sh DESCRIPTION")]
    named = set(re.findall(r"-([a-z][a-z0-9-]+)", synopsis))
    assert described == options() - {"help"}
    assert named == options() - {"help"}


def test_the_command_line_goes_before_the_file(tmp_path):
    (tmp_path / "c").write_text("[moultd]\nconcurrent-pushes = 3\nlog-level = debug\n")
    out = run("--check-config", "--config", tmp_path / "c", "--log-level", "error")[1]
    assert "concurrent-pushes = 3\n" in out and "log-level = error\n" in out


@pytest.mark.parametrize("text, said", [
    ("[moultd]\nsockets = /x\n", '"sockets" is not a setting'),
    ("[Moultd]\nsocket = /x\n", "there is no group [Moultd]"),
    ("socket = /x\n", "configuration"),
    ("[moultd]\nconcurrent-pushes = 0\n", "concurrent-pushes"),
    ("[moultd]\nconcurrent-pushes = many\n", "concurrent-pushes"),
    ("[moultd]\nconcurrent-per-backing = -1\n", "concurrent-per-backing"),
    ("[moultd]\nimmutable-packs = true\n", "neither yes nor no"),
    ("[moultd]\nlog-level = loud\n", "log-level"),
], ids=lambda text: text.split("\n")[-2] if "\n" in text else "")
def test_a_mistake_is_named(tmp_path, text, said):
    (tmp_path / "c").write_text(text)
    for words in (["--check-config"], []):
        code, out, err = run(*words, "--config", tmp_path / "c", "--state-dir", tmp_path / "state")
        assert code == 2, (out, err)
        assert said in err and not out and not (tmp_path / "state").exists()


def test_a_file_that_is_not_there_is_an_error_only_if_it_was_asked_for(tmp_path):
    code, _, err = run("--check-config", "--config", tmp_path / "none")
    assert code == 2 and "none" in err
