"""The shipped weights are what their cards say."""

import json

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, VisualBertForPreTraining

import cliptd
from cliptd.reinforcement.captioner import Captioner
from tasks.batches.box_views import BoxViews
from tasks.batches.region_features import RegionFeatures
from tasks.iconworld.files.vcr import ITEMS_PER_SCENE, VcrSizes, write_vcr
from tasks.iconworld.glyphs import CONCEPTS, FAMILIES, PERSON, UNSEEN_FAMILIES
from tasks.iconworld.language import article, sample_captions
from tasks.iconworld.making.captioner import build_captioner, faithfulness
from tasks.iconworld.making.teacher import tokenize
from tasks.iconworld.making.tokenizers import teacher_tokenizer
from tasks.iconworld.models import CAPTIONER, REGIONS, STUDENT, TEACHER
from tasks.iconworld.scenes import EMPTY, PERSON_INDEX, render, sample_scenes
from tasks.vcr.data import VcrDataset


def card(folder):
    return json.loads((folder / "card.json").read_text())


def test_every_folder_has_a_card_and_a_few_megabytes_of_safetensors():
    for folder in (TEACHER, REGIONS, STUDENT, CAPTIONER):
        assert {"data", "training", "parameters"} <= set(card(folder))
        weights = list(folder.glob("*.safetensors"))
        assert len(weights) == 1
        assert weights[0].stat().st_size < 16e6
        assert not list(folder.glob("*.bin")) + list(folder.glob("*.pt"))


@pytest.fixture(scope="module")
def teacher():
    return cliptd.load_teacher(str(TEACHER))


def test_the_teacher_names_single_icons_of_every_family_as_its_card_says(teacher):
    from PIL import Image

    nouns = teacher.encode_texts([f"a photo of {article(concept)}" for concept in CONCEPTS])
    for family in FAMILIES:
        scenes = sample_scenes(np.random.default_rng(11), 200, (family,), objects=(1, 1), persons=(0, 0))
        images = teacher.encode_images([Image.fromarray(picture) for picture in render(scenes)])
        there = [int(row[(row != EMPTY) & (row != PERSON_INDEX)][0]) for row in scenes.concept]
        accuracy = 100 * ((images @ nouns.T).argmax(1) == torch.tensor(there)).float().mean().item()
        # the card's figure is on scenes that may show a person, too, which is harder
        assert accuracy > card(TEACHER)["zero_shot_percent"][family]["noun_1"] - 8


def test_open_clips_tokenizer_of_the_folder_is_the_one_it_was_trained_with(teacher):
    rng = np.random.default_rng(5)
    texts = sample_captions(rng, sample_scenes(rng, 50, FAMILIES)).texts
    assert torch.equal(torch.as_tensor(teacher.tokenize(texts)), tokenize(teacher_tokenizer(), texts))


def test_captions_name_what_is_there_as_often_as_the_captioners_card_says():
    captioner = Captioner(str(CAPTIONER))
    for family, known in card(CAPTIONER)["of_what_captions_name_percent"].items():
        found = faithfulness(captioner, family, samples=40)
        assert found["nouns"] > known["nouns"] - 15
        assert found["colours"] > known["colours"] - 15
        assert found["distinct"] > 50


def test_the_captioner_begins_with_the_teachers_eyes(teacher):
    vision = teacher.model.visual
    model = build_captioner(teacher.model).eval()
    pixels = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = vision.transformer(vision._embeds(pixels))
        torch.testing.assert_close(model.encoder(pixel_values=pixels).last_hidden_state, expected)


def test_the_students_eyes_saw_no_unseen_family():
    assert not any(family in card(REGIONS)["data"] for family in UNSEEN_FAMILIES)
    regions = RegionFeatures(f"local-dir:{REGIONS}")
    assert regions.dim == VisualBertForPreTraining.from_pretrained(STUDENT).config.visual_embedding_dim


def test_the_student_and_its_tokenizer_fit():
    student = VisualBertForPreTraining.from_pretrained(STUDENT)
    tokenizer = AutoTokenizer.from_pretrained(STUDENT)
    assert student.config.vocab_size == len(tokenizer)
    assert tokenizer.unk_token_id not in tokenizer("Casey is holding the red umbrella.")["input_ids"]
    known = card(STUDENT)["concepts"]
    assert 0.2 < len(known) / len(CONCEPTS) < 0.3


def test_the_teacher_names_an_icon_by_its_box_where_it_cannot_name_two_in_one_picture(teacher, tmp_path):
    """What makes regions, and words looked for in regions, worth their price."""
    words = teacher.encode_texts([f"a photo of {article(concept)}" for concept in CONCEPTS])
    root = write_vcr(tmp_path, sizes=VcrSizes(train=0, val=60, val_shifted=60, test=0))
    for split in ("val", "val_shifted"):
        dataset = VcrDataset.from_root(root, split, classes=None, tasks="q_to_a")
        examples = [dataset[k] for k in range(0, 60, ITEMS_PER_SCENE)]
        right = both = total = 0
        whole = (teacher.encode_images([e.image() for e in examples]) @ words.T).topk(2).indices
        for example, top in zip(examples, whole, strict=True):
            shown = [
                (k, CONCEPTS.index(name)) for k, name in enumerate(example.item.objects) if name != PERSON
            ]
            views = BoxViews(example, "alone")
            named = (teacher.encode_images([views.image(k) for k, _ in shown]) @ words.T).argmax(1)
            right += sum(int(name) == concept for name, (_, concept) in zip(named, shown, strict=True))
            both += len({concept for _, concept in shown} & set(top.tolist()))
            total += len(shown)
        assert right / total > 0.93
        assert both / total < 0.6
