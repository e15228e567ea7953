"""`last` and `best` mean the newest run that has one, or are an error."""

from __future__ import annotations

import pytest

from palmforge.checkpoints import resolve_checkpoint
from palmforge.errors import CheckpointError


@pytest.fixture
def logs(tmp_path):
    for version, names in ((2, ("last", "best")), (10, ("last",)), (11, ())):
        folder = tmp_path / "teacher" / f"version_{version}" / "checkpoints"
        folder.mkdir(parents=True)
        for name in names:
            (folder / f"{name}.ckpt").touch()
    return tmp_path


def test_last_is_of_the_newest_run_with_a_checkpoint(logs):
    found = resolve_checkpoint("last", str(logs), "teacher", "test")
    assert found == str(logs / "teacher/version_10/checkpoints/last.ckpt")


def test_best_skips_runs_without_one(logs):
    assert "version_2/" in resolve_checkpoint("best", str(logs), "teacher", "fit")


@pytest.mark.parametrize(
    ("given", "experiment", "message"),
    [
        ("last", "student", "no last.ckpt in any run of 'student'"),
        ("/no/file.ckpt", "teacher", "no file '/no/file.ckpt'"),
        ("https://example.org/x.ckpt", "teacher", "not on this machine"),
        (None, "teacher", "test needs --ckpt_path"),
    ],
)
def test_never_a_silent_fresh_start(logs, given, experiment, message):
    with pytest.raises(CheckpointError, match=message):
        resolve_checkpoint(given, str(logs), experiment, "test")


def test_a_fit_without_a_checkpoint_starts_afresh(logs):
    assert resolve_checkpoint(None, str(logs), "teacher", "fit") is None
