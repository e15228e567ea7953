"""What is inside a file, for any batch, and what is refused."""

from __future__ import annotations

import pytest
import torch
from exports import checkpoint

from palmforge.errors import CheckpointError, ConfigError
from palmforge.export.exportable import load_exportable
from palmforge.export.formats import runner, write_torch_export
from palmforge.recognition import load


@pytest.mark.parametrize("kind", ["teacher", "margin", "landmarks", "detector"])
def test_a_graph_takes_any_batch_and_gives_what_the_package_gives(kind, tmp_path):
    path = checkpoint(kind, tmp_path)
    what = load_exportable(path)
    write_torch_export(what, tmp_path / "model.pt2")
    run = runner(tmp_path / "model.pt2", "torch_export")
    for batch in (1, 3):
        pixels = torch.randint(0, 256, (batch, 3, 64, 64), dtype=torch.uint8)
        outputs = run(pixels.numpy())
        assert len(outputs) == len(what.outputs) and all(len(o) == batch for o in outputs)
        truth = load(path).embed(pixels) if what.distance else what.reference(pixels)
        torch.testing.assert_close(torch.from_numpy(outputs[0]), truth, atol=1e-4, rtol=1e-4)


def test_what_has_no_network_or_no_way_is_refused_by_name(tmp_path):
    with pytest.raises(ConfigError, match="mtcc has no network"):
        load_exportable("mtcc")
    with pytest.raises(CheckpointError, match=r"no 'nothing.ckpt'"):
        load_exportable("nothing.ckpt")
    torch.save({"network_class": "IdentityGenerator", "state_dict": {}}, tmp_path / "lora.ckpt")
    with pytest.raises(ConfigError, match=r"of IdentityGenerator.*generator export"):
        load_exportable(str(tmp_path / "lora.ckpt"))
    torch.save({"network_class": "Attacker", "state_dict": {}}, tmp_path / "other.ckpt")
    with pytest.raises(ConfigError, match=r"of Attacker.*HashingStudent"):
        load_exportable(str(tmp_path / "other.ckpt"))
    (tmp_path / "broken.ckpt").write_bytes(b"no")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_exportable(str(tmp_path / "broken.ckpt"))


def test_embedded_palm_finders_have_names():
    assert load_exportable("palm-landmarks").image_size == 160
    assert load_exportable("palm-detector").role == "detector"
