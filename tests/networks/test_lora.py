"""Adapters: what is trained, in which dtype, and what is refused."""

from __future__ import annotations

import pytest
import torch
from diffusers import UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from palmforge.errors import ConfigError
from palmforge.networks.lora import LoraSettings, add_lora

KEY = "model.lora.target_modules"


def _unet() -> UNet2DConditionModel:
    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=8, block_out_channels=(16, 32), norm_num_groups=16, layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=32, attention_head_dim=2,
    )  # fmt: skip


def _adapted(unet=None, **settings):
    unet = unet or _unet()
    lora = LoraSettings(**{"rank": 4, **settings})
    add_lora(unet, lora, lora.target_modules, KEY)
    return unet


def _said(unet) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    noisy = torch.randn(2, 4, 8, 8, generator=generator)
    words = torch.randn(2, 5, 32, generator=generator)
    return unet(noisy, torch.tensor([3, 900]), words).sample


def _trained(unet) -> dict[str, torch.nn.Parameter]:
    return {name: p for name, p in unet.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_adapter_alone_is_trained_and_in_float32(dtype):
    unet = _adapted(_unet().to(dtype))
    trained = _trained(unet)
    assert trained and all("lora_" in name for name in trained)
    assert {p.dtype for p in trained.values()} == {torch.float32}
    frozen = {p.dtype for n, p in unet.named_parameters() if n not in trained}
    assert frozen == {dtype}


@pytest.mark.parametrize(
    "settings",
    [
        {}, {"init": "kaiming"}, {"use_rslora": True}, {"use_dora": True}, {"init": "pissa"},
        {"init": "olora"}, {"alpha": 2.5}, {"init": "pissa", "use_rslora": True},
    ],
)  # fmt: skip
def test_a_new_adapter_changes_nothing_and_all_of_it_learns(settings):
    expected = _said(_unet()).detach()
    unet = _adapted(**settings)
    torch.testing.assert_close(_said(unet).detach(), expected, rtol=1e-3, atol=2e-4)
    optimizer = torch.optim.SGD(_trained(unet).values(), lr=1.0)
    before = {name: p.detach().clone() for name, p in _trained(unet).items()}
    for _ in range(3):
        optimizer.zero_grad()
        _said(unet).square().mean().backward()
        optimizer.step()
    still = [name for name, p in _trained(unet).items() if torch.equal(p, before[name])]
    assert not still
    assert not torch.allclose(_said(unet), expected, atol=1e-3)


@pytest.mark.parametrize(("rslora", "scale"), [(False, 8 / 4), (True, 8 / 2)])
def test_the_scale_is_alpha_over_rank_or_its_root(rslora, scale):
    unet = _adapted(alpha=8.0, use_rslora=rslora)
    layer = unet.mid_block.attentions[0].transformer_blocks[0].attn1.to_q
    down, up = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    torch.nn.init.normal_(up)
    x = torch.randn(3, down.shape[1])
    torch.testing.assert_close(layer(x), layer.base_layer(x) + scale * x @ down.T @ up.T)


def test_convolutions_can_be_adapted_too():
    unet = _adapted(target_modules=("to_q", "conv1"))
    assert any("conv1.lora_A" in name for name in _trained(unet))
    _said(unet).sum().backward()


def test_names_that_no_layer_has_are_refused_with_those_that_there_are():
    with pytest.raises(ConfigError, match=r"target_modules.*UNet2D.*called query.*to_k.*to_q"):
        _adapted(target_modules=("to_q", "query"))
    with pytest.raises(ConfigError, match="called nothing"):
        _adapted(target_modules=())
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=9, hidden_size=32, intermediate_size=32, num_hidden_layers=1,
            num_attention_heads=2, bos_token_id=0, eos_token_id=1, pad_token_id=1,
        )
    )  # fmt: skip
    with pytest.raises(ConfigError, match=r"CLIPTextModel.*called to_q.*q_proj"):
        add_lora(text, LoraSettings(), ("to_q",), "model.lora.text_encoder_modules")


@pytest.mark.parametrize("wrong", [{"rank": 0}, {"alpha": 0.0}, {"dropout": 1.0}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ConfigError, match=r"model\.lora: rank >= 1"):
        LoraSettings(**wrong)
