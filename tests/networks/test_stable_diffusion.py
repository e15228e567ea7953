"""A small Stable Diffusion from configs, and its tokenizer."""

from __future__ import annotations

import re

import pytest
import torch
from transformers import AutoTokenizer, CLIPTokenizer

from palmforge.data.generation.prompts import draw_prompts
from palmforge.networks.stable_diffusion import (
    END,
    START,
    TinyStableDiffusion,
    local_tokenizer,
    tiny_components,
)

TEXTS = draw_prompts(300, seed=0)
ODD = ["a left palm", "Ärmel, naïve", "手のひら", "🖐🏽 palm's 12 lines!", "", "  ", "x\n\ty", "ﬁ½"]


@pytest.fixture(scope="module")
def tokenizer():
    return local_tokenizer(TEXTS, 40)


@pytest.mark.parametrize("text", ODD)
def test_any_text_can_be_spelt(tokenizer, text):
    ids = tokenizer(text).input_ids
    inner = ids[1:-1]
    assert ids[0] == tokenizer.bos_token_id and ids[-1] == tokenizer.eos_token_id
    # END is the unknown token too: none of it may stand for a letter.
    assert tokenizer.eos_token_id not in inner
    assert bool(inner) == bool(text.split())


def test_spelt_words_come_back(tokenizer):
    text = "a naïve 手 of zq"
    assert tokenizer.decode(tokenizer(text).input_ids, skip_special_tokens=True).strip() == text


def test_every_word_of_the_grammar_is_one_token(tokenizer):
    words = {word for text in TEXTS for word in re.findall(r"[a-z]+|[^\sa-z0-9]+", text.lower())}
    assert len(words) > 20
    many = {word for word in words if len(tokenizer(word).input_ids) != 3}
    assert not many


def test_saved_and_loaded_it_gives_the_same_numbers(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    for kind in (CLIPTokenizer, AutoTokenizer):
        again = kind.from_pretrained(tmp_path)
        for text in (*TEXTS[:50], *ODD):
            given, loaded = (
                one(text, padding="max_length", truncation=True).input_ids
                for one in (tokenizer, again)
            )
            assert given == loaded and len(given) == 40
        assert again.convert_ids_to_tokens([again.bos_token_id, again.eos_token_id]) == [START, END]


def test_it_is_the_same_one_whatever_the_order_of_the_texts(tokenizer):
    assert local_tokenizer(TEXTS[::-1], 40).get_vocab() == tokenizer.get_vocab()


def test_the_parts_fit_together():
    sizes = TinyStableDiffusion(
        latent_channels=4, vae_channels=(8, 8, 16), unet_channels=(16, 32), text_dim=32,
        text_layers=1, attention_heads=2, prediction_type="v_prediction",
    )  # fmt: skip
    parts = tiny_components(sizes, 32, TEXTS)
    image = torch.rand(2, 3, 32, 32)
    latents = parts["vae"].encode(image).latent_dist.mean
    assert latents.shape == (2, 4, 8, 8)
    assert parts["vae"].decode(latents).sample.shape == image.shape
    ids = parts["tokenizer"](
        ["a left palm", "?"], padding="max_length", return_tensors="pt"
    ).input_ids
    words = parts["text_encoder"](ids).last_hidden_state
    assert words.shape == (2, 40, 32)
    assert parts["unet"](latents, torch.tensor([1, 2]), words).sample.shape == latents.shape
    assert parts["scheduler"].config.prediction_type == "v_prediction"
