"""Latents and prompt embeddings on disk."""

from __future__ import annotations

import pytest
import torch
from generators import TWO, generator, palms, trainer

from palmforge.callbacks import CacheLatents
from palmforge.data.tensor_shards import TensorShards


def fill(root, folder, module=None, data=None, **settings):
    """One step; returns the shards by kind."""
    one = trainer(None, CacheLatents(str(folder)), max_steps=1, **settings)
    one.fit(module or generator(), palms(root, **(data or {})))
    return {p.name.split("-")[0]: TensorShards(p, "x") for p in folder.iterdir()}


@pytest.fixture
def kept(palms_root, tmp_path):
    return fill(palms_root, tmp_path / "one")


def _assert_same(one: TensorShards, other: TensorShards) -> None:
    assert one._place.keys() == other._place.keys() and one._place
    for key in one._place:
        a, b = one[key], other[key]
        assert a.keys() == b.keys()
        assert all(torch.equal(a[name], b[name]) for name in a)


def test_two_processes_keep_what_one_keeps(palms_root, tmp_path, kept):
    two = fill(palms_root, tmp_path / "two", **TWO)
    for kind in ("latents", "words"):
        _assert_same(kept[kind], two[kind])
    assert len(list((tmp_path / "two").rglob("*.safetensors"))) == 4  # each wrote a share


def test_it_holds_every_picture_and_prompt_as_the_encoders_say(palms_root, tmp_path, kept):
    module, data = generator(), palms(palms_root)
    module.configure_model()
    data.setup("fit")
    assert len(kept["latents"]._place) == len(data.train) + len(data.val)
    assert len(kept["words"]._place) == len({*data.train.all_prompts(), *data.val.all_prompts()})
    row = kept["latents"][data.train.palms.key(5)]
    cpu = torch.device("cpu")
    expected = module.encoders.images(data.train.palms[5]["image"][None], cpu)
    assert row["mean"].shape == (4, 8, 8) and row["mean"].dtype == torch.float32
    assert all(torch.equal(row[name], expected[name][0]) for name in row)
    words = module.encoders.prompts([data.train.prompts[0]], cpu)["prompt_embeds"]
    torch.testing.assert_close(kept["words"][data.train.prompts[0]]["prompt_embeds"], words[0])


def test_what_is_there_is_not_computed_again(palms_root, tmp_path, kept, monkeypatch):
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "one").rglob("*.safetensors")}
    module = generator()
    module.configure_model()
    monkeypatch.setattr(module.encoders, "images", None)  # calling it would raise
    monkeypatch.setattr(module.encoders, "prompts", None)
    fill(palms_root, tmp_path / "one", module)
    assert before == {p: p.stat().st_mtime_ns for p in (tmp_path / "one").rglob("*.safetensors")}


def test_another_autoencoder_or_size_has_rows_of_its_own(palms_root, tmp_path, kept):
    module = generator()
    module.configure_model()
    with torch.no_grad():
        module.pipeline.vae.quant_conv.weight.mul_(1.5)
    fill(palms_root, tmp_path / "one", module)
    names = sorted(p.name.split("-")[0] for p in (tmp_path / "one").iterdir())
    assert names == ["latents", "latents", "words"]


def test_false_keeps_nothing(palms_root, tmp_path):
    one = trainer(None, CacheLatents(str(tmp_path / "no"), enabled=False), max_steps=1)
    one.fit(generator(), palms(palms_root))
    assert not (tmp_path / "no").exists()
