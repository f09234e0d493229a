"""Captioners on tiny image-to-text models: captions depend on image and seed only, and bad input is refused."""

import pytest
import torch
from transformers import (
    BertConfig,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipTextConfig,
    BlipVisionConfig,
    VisionEncoderDecoderConfig,
    VisionEncoderDecoderModel,
    ViTConfig,
    ViTImageProcessor,
)

from cliptd.reinforcement.captioner import Captioner, SeededSampling
from tests.helpers.tiny_clip import IMAGE_SIZE, tiny_hf_folder, tiny_image, tiny_tokenizer

TINY = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


def blip(tokenizer):
    special = {"bos_token_id": tokenizer.bos_token_id, "sep_token_id": tokenizer.eos_token_id}
    text = BlipTextConfig(
        **TINY,
        vocab_size=len(tokenizer),
        encoder_hidden_size=16,
        projection_dim=16,
        pad_token_id=0,
        **special,
    )
    vision = BlipVisionConfig(**TINY, image_size=IMAGE_SIZE, patch_size=8, projection_dim=16)
    return BlipForConditionalGeneration(
        BlipConfig(text_config=text.to_dict(), vision_config=vision.to_dict())
    )


def encoder_decoder(tokenizer):
    image = ViTConfig(**TINY, image_size=IMAGE_SIZE, patch_size=8)
    text = BertConfig(**TINY, vocab_size=len(tokenizer), is_decoder=True, add_cross_attention=True)
    model = VisionEncoderDecoderModel(VisionEncoderDecoderConfig.from_encoder_decoder_configs(image, text))
    model.generation_config.decoder_start_token_id = tokenizer.bos_token_id
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model


@pytest.fixture(scope="module", params=[blip, encoder_decoder])
def folder(request, tmp_path_factory):
    tokenizer = tiny_tokenizer()
    torch.manual_seed(0)
    model, path = request.param(tokenizer), tmp_path_factory.mktemp(request.param.__name__)
    for saved in (model, tokenizer, ViTImageProcessor(size={"height": IMAGE_SIZE, "width": IMAGE_SIZE})):
        saved.save_pretrained(path)
    return path


def test_a_caption_is_no_longer_than_the_model_can_count(folder):
    captioner = Captioner(str(folder), max_tokens=600, top_p=1.0)
    assert captioner.max_tokens == 512
    assert Captioner(str(folder), max_tokens=7).max_tokens == 7


def test_a_caption_depends_on_picture_and_seed_and_not_on_the_batch(folder):
    images, seeds = [tiny_image(k) for k in range(3)], [[10, 11], [20, 21], [10, 11]]
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    together = Captioner(str(folder), max_tokens=6).captions(images, seeds)
    assert torch.equal(torch.random.get_rng_state(), before)
    alone = Captioner(str(folder), max_tokens=6, batch_size=1)
    assert together == [alone.captions([image], [own])[0] for image, own in zip(images, seeds, strict=True)]
    assert all(len(own) == 2 and own[0] != own[1] for own in together)
    assert all(isinstance(text, str) and text for own in together for text in own)
    assert alone.captions([], []) == []
    with pytest.raises(ValueError, match="expected one group for each"):
        alone.captions(images, [[1], [2], [3, 4]])


def test_a_picture_is_encoded_once_for_all_its_captions(folder):
    captioner, seen = Captioner(str(folder), max_tokens=4, batch_size=6), []
    tower = getattr(captioner.model, "vision_model", None) or captioner.model.encoder
    tower.register_forward_pre_hook(
        lambda _, args, given: seen.append(len(given.get("pixel_values", args[0] if args else None))),
        with_kwargs=True,
    )
    captioner.captions([tiny_image(k) for k in range(3)], [[1, 2, 3]] * 3)
    assert seen == [2, 1]  # six captions at a time


def test_the_token_that_is_left_is_a_sample_of_the_nucleus():
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0])
    counts = torch.zeros(4)
    for seed in range(3000):
        counts[SeededSampling([seed], 1.0)(None, logits[None]).argmax()] += 1
    torch.testing.assert_close(counts / 3000, logits.softmax(0), atol=0.03, rtol=0)
    left = SeededSampling([0, 1], 1.0)(None, logits.expand(2, -1))
    assert left.isfinite().sum(dim=1).tolist() == [1, 1]
    nucleus = [SeededSampling([seed], 0.7)(None, logits[None]).argmax().item() for seed in range(300)]
    assert set(nucleus) == {0, 1}  # 0.64 + 0.24 is the first sum above 0.7


def test_what_is_no_captioner_is_refused(tmp_path):
    clip = tiny_hf_folder(tmp_path / "clip")
    with pytest.raises(ValueError, match="could not be loaded as an image-to-text model"):
        Captioner(str(clip))
    with pytest.raises(FileNotFoundError, match=r"captioner folder .*nowhere does not exist"):
        Captioner(str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="found top_p 0 and max_tokens 40"):
        Captioner(str(clip), top_p=0)
