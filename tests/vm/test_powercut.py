"""Power cuts, as tests/powercut/README.md describes them: a seeded short campaign on each file system."""

import os
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "powercut"))

import campaign  # noqa: E402
import scenarios  # noqa: E402

SOAK = os.environ.get("MOULT_SOAK") == "1"


@pytest.mark.parametrize("fs", ["ext4", "btrfs"])
def test_every_crash_state_is_one_tree_and_none_older_than_acknowledged(fs, tmp_path):
    # Most runs of writes are short and have few subsets: more are asked for than there will be.
    total, counts, wrong = campaign.campaign(fs, 30_000 if SOAK else 1500, 1, None, tmp_path)
    assert not wrong, "\n".join(wrong[:20])
    assert total >= (5000 if SOAK else 300)
    assert set(counts) == {1, 2, 3}, f"the record does not show every tree: {counts}"


@pytest.mark.parametrize("fs,method", [("ext4", "auto")] + [("btrfs", "auto"), ("ext4", "union")] * SOAK)
def test_every_crash_state_of_releases_that_merge_is_one_tree(fs, method, tmp_path):
    total, counts, wrong = campaign.campaign(fs, 30_000 if SOAK else 400, 1, None, tmp_path, scenarios.Merged(method))
    assert not wrong, "\n".join(wrong[:20])
    assert total >= (5000 if SOAK else 300)
    assert set(counts) == {1, 2, 3}, f"the record does not show every tree: {counts}"
