"""Counting of starts, played without a machine: `recover --boot --count-boots` is a start, `boot-ok` its good end. tests/vm/test_boots.py
has the real ones; test_engine_merge.py what a start merges."""

import pytest

from engine_lab import OK, ROLLED_BACK, USAGE, put, release
from engine_lab import lab  # noqa: F401

HEALTHY_UNLESS_ILL = '#!/bin/sh\ntest ! -e "$MOULT_ROOT/ill"\n'


@pytest.fixture
def upgraded(lab, tmp_path):  # noqa: F811
    """f is new; the release's health check fails once there is a file "ill"."""
    put(lab.root, "f", "old\n")
    put(lab.new, "f", "new\n")
    hook = put(tmp_path, "hook", HEALTHY_UNLESS_ILL, 0o755)
    lab.pack = release(lab, "--hook", f"health={hook}")
    return lab


def start(lab, *options):  # noqa: F811
    return lab.recover("--boot", "--count-boots", *options)


def text(lab):  # noqa: F811
    return (lab.root / "f").read_text()


def test_a_release_that_is_not_confirmed_is_counted_as_well(upgraded):
    """A machine that does not even get as far as the daemon has nobody else to take it back."""
    upgraded.apply(upgraded.pack, "--no-confirm")
    for _ in range(3):
        start(upgraded)
        assert text(upgraded) == "new\n"
    said = start(upgraded)
    assert "was started 3 times with it and did not get healthy" in said.err
    assert text(upgraded) == "old\n"
    assert "rolled-back" in upgraded.history("-n", "1")


def test_the_end_of_a_start_is_none_of_the_older_releases_business(upgraded, tmp_path):
    """While a newer one waits for its confirmation, the daemon decides."""
    upgraded.apply(upgraded.pack)
    start(upgraded)
    put(upgraded.new, "f", "newer\n")
    upgraded.apply(release(upgraded, version="2"), "--no-confirm")
    put(upgraded.root, "ill", "")
    upgraded.agent("boot-ok", *upgraded.where, check=OK)
    assert text(upgraded) == "newer\n"
    boots = (upgraded.state / "generations/1/boots").read_text()
    assert "good" not in boots and boots.count("begun") == 1
    upgraded.recover("--back")
    upgraded.agent("boot-ok", *upgraded.where, check=ROLLED_BACK)
    assert text(upgraded) == "old\n"


def test_confirmed_after_two_starts_it_still_has_one(upgraded):
    upgraded.apply(upgraded.pack, "--no-confirm")
    start(upgraded)
    start(upgraded)
    upgraded.recover("--confirm")
    start(upgraded)
    upgraded.agent("boot-ok", *upgraded.where, check=OK)
    for _ in range(4):
        start(upgraded)
    assert text(upgraded) == "new\n"


def test_an_option_of_a_later_unit_does_not_stop_the_recovery_of_a_start(upgraded):
    upgraded.apply(upgraded.pack, "--no-confirm")
    said = start(upgraded, "--of-a-later-release", "--another=1")
    assert '"--of-a-later-release"' in said.err and '"--another=1"' in said.err
    assert (upgraded.state / "generations/1/boots").exists()
    # Where somebody looks at the answer, it is a mistake as ever.
    upgraded.recover("--of-a-later-release", check=USAGE)
    upgraded.recover("--boot", "stray", check=USAGE)
