"""Nothing is uploaded unless it can be, and never a picture."""

from __future__ import annotations

import pytest

from palmforge.errors import ConfigError
from palmforge.export.hub import check_hub, push


def test_a_push_that_cannot_be_is_refused_at_once(monkeypatch):
    with pytest.raises(ConfigError, match="no owner/name"):
        check_hub("palm")
    with pytest.raises(ConfigError, match="push_to_hub"):
        check_hub("me/pa lm")
    with pytest.raises(ConfigError, match="HF_HUB_OFFLINE is set"):  # as in all tests
        check_hub("me/palm")
    monkeypatch.setattr("huggingface_hub.constants.is_offline_mode", lambda: False)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(ConfigError, match="nobody is logged in"):
        check_hub("me/palm")


def test_only_the_files_of_the_export_go_up(monkeypatch, tmp_path):
    seen = {}

    class Api:
        def create_repo(self, repo, **settings):
            assert settings["private"]
            return f"https://hub/{repo}"

        def upload_folder(self, **settings):
            seen.update(settings)

    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    (tmp_path / "palm.png").write_bytes(b"")
    assert push(tmp_path, "me/palm", ["model.onnx", "README.md"]) == "https://hub/me/palm"
    assert seen["allow_patterns"] == ["model.onnx", "README.md"]

    def refuse(self, **settings):
        raise ConnectionError("no route")

    monkeypatch.setattr(Api, "upload_folder", refuse)
    with pytest.raises(ConfigError, match=r"no route.*files are in"):
        push(tmp_path, "me/palm", ["model.onnx"])
