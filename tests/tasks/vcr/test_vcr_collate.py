"""Batches for patch and region students, checked by reading tokens and pixels back."""

import numpy as np
import pytest
import torch
from transformers import ViltImageProcessor

from tasks.batches.box_views import BoxViews
from tasks.batches.collators import align
from tasks.students.models import MultipleChoice
from tasks.vcr.data import VcrDataset
from tasks.vcr.marks import NAME_COLOURS, OBJECT_COLOURS, colours_of, outline
from tasks.vcr.names import PERSON_NAMES
from tasks.vcr.texts import ChoiceTexts
from tests.helpers.tiny_vcr import (
    BOXES,
    SIZE,
    pair_tokenizer,
    patch_collator,
    region_collator,
    tiny_config,
    tiny_item,
    tiny_vcr,
    write_items,
)

TOKENIZER = pair_tokenizer()


class CountingRegions:
    """Features that say where they come from: [object number + 10 (whole image: 9), image number]."""

    def lookup(self, keys, images, boxes):
        features = []
        for key, box in zip(keys, boxes, strict=True):
            number = int(key.split("/")[1].split(".")[0])
            features.append(torch.tensor([[9.0 + row, number] for row in range(len(box))]))
        return features


def to_tensor(image):
    return torch.tensor(np.asarray(image)).permute(2, 0, 1) / 255


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return VcrDataset.from_root(tiny_vcr(tmp_path_factory.mktemp("vcr")), "val")


def test_texts_are_question_and_choice_and_in_qa_to_r_the_right_answer_between(dataset):
    batch = patch_collator(TOKENIZER, to_tensor)([dataset[0], dataset[1]])
    assert batch["input_ids"].shape[:2] == (2, 4)
    assert batch["input_ids"].shape == batch["attention_mask"].shape == batch["token_type_ids"].shape
    for b, context in enumerate(
        ["What is Casey holding?", "What is Casey holding? Casey is holding wine glass."]
    ):
        for c, choice in enumerate(dataset[b].choices):
            length = int(batch["attention_mask"][b, c].sum())
            expected = TOKENIZER(context, choice_text(choice))
            assert batch["input_ids"][b, c, :length].tolist() == expected["input_ids"]
            assert batch["token_type_ids"][b, c, :length].tolist() == expected["token_type_ids"]
            assert (batch["input_ids"][b, c, length:] == TOKENIZER.pad_token_id).all()
    assert batch["labels"].tolist() == [0, 1]


def choice_text(tokens):
    """By hand for the few shapes of `tiny_vcr.ITEM`."""
    names = ["Casey", "Riley", "wine glass"]
    words = [w if isinstance(w, str) else " and ".join(names[i] for i in w) for w in tokens]
    return " ".join(words).replace(" .", ".").replace(" n't", "n't").replace(" 's", "'s")


def test_labels_are_left_out_where_unknown(tmp_path):
    dataset = VcrDataset.from_root(tiny_vcr(tmp_path, split="test", labels=False), "test", tasks="q_to_a")
    assert "labels" not in patch_collator(TOKENIZER, to_tensor)([dataset[0]])


def test_distillation_inputs_tie_student_tokens_to_teacher_words(dataset):
    collate = patch_collator(TOKENIZER, to_tensor, distillation=True)
    batch = collate([dataset[0], dataset[1]])
    inputs = batch["distillation_inputs"]
    assert inputs.image_keys == ["lsmdc_0001_Tiny/0.jpg"] * 2
    assert inputs.texts[0][:2] == ["person is holding wine glass.", "person and person are dancing."]
    assert inputs.words[0][0] == ["What", "is", "person", "holding", "person", "is", "holding", "wine glass"]
    assert inputs.words[1][0][:8] == inputs.words[0][0]  # qa_to_r: the right answer is part of the context
    spelled = {}
    for token, word in zip(batch["input_ids"][0, 0].tolist(), inputs.word_ids[0, 0].tolist(), strict=True):
        spelled[word] = spelled.get(word, "") + TOKENIZER.convert_ids_to_tokens(token).removeprefix("##")
    assert spelled[2] == spelled[4] == "casey"  # what the student reads where the teacher reads "person"
    assert spelled[7] == "wineglass"
    assert (inputs.word_ids == -1).eq(batch["attention_mask"] == 0)[batch["attention_mask"] == 0].all()
    plain = np.asarray(dataset[0].image())
    assert (np.asarray(inputs.images[0]()) == plain).all()  # the teacher's image has no marks


def test_the_teacher_sees_each_box_by_itself(dataset):
    example = dataset[0]
    picture = np.asarray(example.image())
    for view in ("crop", "alone"):
        collate = region_collator(TOKENIZER, CountingRegions(), distillation=True, teacher_boxes=view)
        inputs = collate([example, dataset[4]])["distillation_inputs"]
        assert len(set(inputs.region_keys[0])) == len(inputs.region_keys[0]) == 3
        assert not set(inputs.region_keys[0]) & set(inputs.region_keys[1])  # of another image
        assert inputs.region_ids.tolist() == [[-1, 0, 1, 2]] * 2  # the whole image, then its objects
        x1, y1, x2, y2 = BOXES[2][:4]
        seen = np.asarray(inputs.regions[0][2]())
        if view == "crop":
            assert (seen == picture[y1:y2, x1:x2]).all()
            continue
        assert (seen[y1:y2, x1:x2] == picture[y1:y2, x1:x2]).all()
        outside = np.ones(picture.shape[:2], bool)
        outside[y1:y2, x1:x2] = False
        assert (seen[outside] == np.median(picture.reshape(-1, 3), axis=0).astype(int)).all()
    patches = patch_collator(TOKENIZER, to_tensor, distillation=True, teacher_boxes="crop")
    inputs = patches([example])["distillation_inputs"]
    assert inputs.region_ids is None  # patches are no boxes, but words are looked for in the boxes
    assert inputs.region_keys == patches.distillation_inputs([example]).region_keys
    with pytest.raises(ValueError, match="view is 'blur'; choose 'crop' or 'alone'"):
        BoxViews(example, "blur")


def test_teacher_text_and_persons_are_switches(dataset):
    options = {"teacher_text": "question_and_choice", "teacher_persons": "names", "distillation": True}
    inputs = patch_collator(TOKENIZER, to_tensor, **options)([dataset[0]])["distillation_inputs"]
    assert inputs.texts[0][0] == "What is Casey holding? Casey is holding wine glass."
    with pytest.raises(ValueError, match="teacher_text is 'all'; choose 'choice' or 'question_and_choice'"):
        patch_collator(TOKENIZER, to_tensor, teacher_text="all")


def test_a_tokenizer_without_padding_is_refused():
    tokenizer = pair_tokenizer()
    tokenizer.pad_token = None
    with pytest.raises(ValueError, match="no padding token"):
        ChoiceTexts(tokenizer)


def test_texts_are_tokenised_once(dataset, monkeypatch):
    import tasks.vcr.texts as module

    calls = []
    encode = module.encode_with_words

    def counted(tokenizer, first, *rest, **options):
        calls.append(len(first))
        return encode(tokenizer, first, *rest, **options)

    monkeypatch.setattr(module, "encode_with_words", counted)
    texts = ChoiceTexts(TOKENIZER, cache_size=3)
    one = texts([dataset[0], dataset[1]])
    two = texts([dataset[1], dataset[0], dataset[2]])
    assert calls == [8, 4]
    assert two[0] is one[1]
    texts([dataset[3]])  # the least recently used one, example 1, goes
    texts([dataset[0]])
    texts([dataset[1]])
    assert calls == [8, 4, 4, 4]


def test_long_texts_are_cut(dataset):
    batch = patch_collator(TOKENIZER, to_tensor, max_length=12)([dataset[0]])
    assert batch["input_ids"].shape[-1] == 12


def test_mentioned_objects_are_outlined_in_the_colours_of_their_names(dataset):
    pixels = patch_collator(TOKENIZER, to_tensor)([dataset[0]])["pixel_values"][0]
    for box, colour in zip(
        BOXES, [NAME_COLOURS["Casey"], NAME_COLOURS["Riley"], OBJECT_COLOURS[0]], strict=True
    ):
        assert (pixels[:, box[1], box[0]] * 255).round().tolist() == list(colour)
    unmarked = patch_collator(TOKENIZER, to_tensor, mark=False)([dataset[0]])["pixel_values"][0]
    assert torch.equal(unmarked, to_tensor(dataset[0].image()))
    inside = (slice(None), slice(10, 30), slice(5, 15))
    assert torch.equal(pixels[inside], unmarked[inside])


def test_objects_that_the_instance_does_not_mention_have_no_outline(tmp_path):
    root = tiny_vcr(tmp_path)
    write_items(
        root / "val.jsonl", [tiny_item(0, answer_choices=[["no"]] * 4)]
    )  # rationales mention all objects
    dataset = VcrDataset.from_root(root, "val")
    collate = patch_collator(TOKENIZER, to_tensor)
    plain = to_tensor(dataset[0].image())
    q_to_a, qa_to_r = (collate([dataset[i]])["pixel_values"][0] for i in (0, 1))
    corner = (slice(None), BOXES[1][1], BOXES[1][0])
    assert torch.equal(q_to_a[corner], plain[corner])
    assert not torch.equal(qa_to_r[corner], plain[corner])


def test_outlines_differ_by_name_and_do_not_touch_the_image():
    assert len({*NAME_COLOURS.values(), *OBJECT_COLOURS}) == len(PERSON_NAMES) + len(OBJECT_COLOURS)
    colours = colours_of([1, 2, 5], {2: "Quinn"})
    assert colours == {1: OBJECT_COLOURS[0], 2: NAME_COLOURS["Quinn"], 5: OBJECT_COLOURS[1]}
    from PIL import Image

    image = Image.new("RGB", SIZE)
    marked = outline(image, np.array([[0, 0, 64, 48]]), {0: (255, 0, 0)}, width=2)
    assert image.getextrema() == ((0, 0),) * 3
    assert marked.getpixel((63, 47)) == marked.getpixel((62, 46)) == (255, 0, 0)
    assert marked.getpixel((61, 45)) == (0, 0, 0)


def test_pixels_come_from_image_processors_and_functions_alike(dataset):
    processor = ViltImageProcessor(size={"shortest_edge": 32}, size_divisor=16, do_pad=True)
    batch = patch_collator(TOKENIZER, processor)([dataset[0], dataset[2]])
    assert batch["pixel_values"].shape[:2] == (2, 3)
    assert batch["pixel_mask"].shape == batch["pixel_values"].shape[:1] + batch["pixel_values"].shape[2:]

    def uneven(image):
        return to_tensor(image)[:, : 20 + next(rows)]

    rows = iter([4, 0])
    batch = patch_collator(TOKENIZER, uneven)([dataset[0], dataset[1]])
    assert batch["pixel_values"].shape == (2, 3, 24, 64)
    assert batch["pixel_mask"].sum((1, 2)).tolist() == [24 * 64, 20 * 64]


def test_regions_begin_with_the_whole_image_and_are_tied_to_the_tokens_that_name_them(dataset):
    batch = region_collator(TOKENIZER, CountingRegions())([dataset[0], dataset[4]])
    assert batch["visual_embeds"].tolist() == [[[9, n], [10, n], [11, n], [12, n]] for n in (0, 1)]
    assert batch["visual_attention_mask"].tolist() == [[1] * 4] * 2
    assert batch["visual_token_type_ids"].tolist() == [[1] * 4] * 2
    alignment = batch["image_text_alignment"]
    assert alignment.shape[:3] == (2, 4, 4)

    def named(c, region):
        """What the tokens spell that region `region` of candidate c is tied to."""
        ids = batch["input_ids"][0, c]
        tokens = [TOKENIZER.convert_ids_to_tokens(int(ids[p])) for p in alignment[0, c, region] if p >= 0]
        return "".join(tokens).replace("##", "")

    assert named(0, 1) == "caseycasey"  # in the question and in the answer
    assert named(0, 3) == "wineglass"
    assert named(1, 2) == "riley"
    assert named(0, 0) == named(0, 2) == "[CLS]"  # the whole image; Riley, whom candidate 0 does not mention


def test_mentioned_objects_come_first_when_regions_are_few(tmp_path):
    root = tiny_vcr(tmp_path)
    write_items(root / "val.jsonl", [tiny_item(0, question=["Is", [2], "?"], answer_choices=[["no"]] * 4)])
    example = VcrDataset.from_root(root, "val")[0]
    batch = region_collator(TOKENIZER, CountingRegions(), max_regions=3)([example])
    assert batch["visual_embeds"][0, :, 0].tolist() == [9, 10, 12]
    with pytest.raises(ValueError, match="max_regions is 0; expected at least 1"):
        region_collator(TOKENIZER, CountingRegions(), max_regions=0)


def test_instances_with_fewer_regions_are_masked(tmp_path):
    root = tiny_vcr(tmp_path, items=4)
    metadata = root / "vcr1images" / "lsmdc_0001_Tiny" / "0.json"
    import json

    metadata.write_text(json.dumps({"boxes": BOXES[:1], "width": SIZE[0], "height": SIZE[1]}))
    lone = tiny_item(0, objects=["person"], answer_choices=[["no"]] * 4, rationale_choices=[["no"]] * 4)
    write_items(root / "val.jsonl", [lone, tiny_item(2)])
    dataset = VcrDataset.from_root(root, "val", tasks="q_to_a")
    batch = region_collator(TOKENIZER, CountingRegions())([dataset[0], dataset[1]])
    assert batch["visual_attention_mask"].tolist() == [[1, 1, 0, 0], [1, 1, 1, 1]]
    assert (batch["visual_embeds"][0, 2:] == 0).all()


def test_lxmert_gets_boxes_as_shares_of_the_image(dataset):
    batch = region_collator(TOKENIZER, CountingRegions(), model="lxmert")([dataset[0]])
    assert batch["visual_feats"].shape == (1, 4, 2)
    expected = [[0, 0, 1, 1], *([b[0] / 64, b[1] / 48, b[2] / 64, b[3] / 48] for b in BOXES)]
    torch.testing.assert_close(batch["visual_pos"][0], torch.tensor(expected))
    assert "image_text_alignment" not in batch
    with pytest.raises(ValueError, match="model is 'vilt'; expected 'visual_bert' or 'lxmert'"):
        region_collator(TOKENIZER, CountingRegions(), model="vilt")


def test_align_by_hand():
    region_objects = torch.tensor([[-1, 0, 5], [-1, 7, -1]])
    object_ids = torch.tensor([[[-1, 0, 0, 5], [5, -1, -1, -1]], [[-1, -1, 7, -1], [-1, -1, -1, -1]]])
    expected = [[[[0, -1], [1, 2], [3, -1]], [[0, -1], [0, -1], [0, -1]]]]
    expected += [[[[0, -1], [2, -1], [0, -1]], [[0, -1], [0, -1], [0, -1]]]]
    assert align(region_objects, object_ids).tolist() == expected


def test_visual_bert_does_not_complain_about_the_alignment(dataset, monkeypatch):
    from transformers.models.visual_bert import modeling_visual_bert

    reasons = []
    monkeypatch.setattr(modeling_visual_bert.logger, "warning", reasons.append)
    config = tiny_config("visual_bert", len(TOKENIZER), visual_dim=2)
    model = MultipleChoice(modeling_visual_bert.VisualBertForMultipleChoice(config))
    batch = region_collator(TOKENIZER, CountingRegions())([dataset[0], dataset[1]])
    model(**batch)
    assert not reasons
    batch["image_text_alignment"][:] = -1
    model(**batch)
    assert reasons  # as it would about regions that stand nowhere
