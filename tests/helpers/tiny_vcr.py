"""A tiny VCR in the official format (images and metadata too), a pair tokenizer, a backbone, student
configs."""

import copy
import json
import string
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from tasks.batches.collators import PatchCollator, RegionCollator
from tasks.vcr.marks import marked
from tasks.vcr.texts import ChoiceTexts

SIZE = (64, 48)
BOXES = [[2, 4, 20, 40, 0.9], [22, 6, 40, 46, 0.8], [42, 20, 62, 44, 0.7]]
ITEM = {
    "movie": "lsmdc_0001_Tiny",
    "objects": ["person", "person", "wineglass"],
    "interesting_scores": [0],
    "answer_likelihood": "likely",
    "question": ["What", "is", [0], "holding", "?"],
    "question_orig": "What is [1] holding?",
    "answer_choices": [
        [[0], "is", "holding", [2], "."],
        [[0, 1], "are", "dancing", "."],
        ["He", "is", "n't", "here", "."],
        [[1], "holds", "a", "knife", "."],
    ],
    "answer_label": 0,
    "rationale_choices": [
        [[1], "is", "far", "away", "."],
        [[2], "is", "in", "front", "of", [0], "."],
        ["It", "is", "dark", "."],
        [[0], "'s", "hand", "is", "up", "."],
    ],
    "rationale_label": 1,
}


def tiny_item(number: int = 0, split: str = "val", **changes) -> dict:
    """One line of the annotations; `changes` replace keys, a value of None removes the key."""
    item = copy.deepcopy(ITEM) | {
        "annot_id": f"{split}-{number}",
        "img_id": f"{split}-{number // 2}",
        "img_fn": f"lsmdc_0001_Tiny/{number // 2}.jpg",  # two questions an image
        "metadata_fn": f"lsmdc_0001_Tiny/{number // 2}.json",
        "question_number": number % 2,
        "answer_label": number % 4,
        "rationale_label": (number + 1) % 4,
    }
    item |= changes
    return {key: value for key, value in item.items() if value is not None}


def write_items(path: Path, items: list[dict]) -> Path:
    path.write_text("".join(json.dumps(item) + "\n" for item in items), encoding="utf-8")
    return path


def tiny_vcr(root: Path, items: int = 6, split: str = "val", labels: bool = True) -> Path:
    """`root/{split}.jsonl` and `root/vcr1images/`; returns root."""
    hidden = {} if labels else {"answer_label": None, "rationale_label": None}
    lines = [tiny_item(number, split, **hidden) for number in range(items)]
    root.mkdir(parents=True, exist_ok=True)
    write_items(root / f"{split}.jsonl", lines)
    for line in lines:
        image = root / "vcr1images" / line["img_fn"]
        image.parent.mkdir(parents=True, exist_ok=True)
        seed = int(line["img_id"].split("-")[1])
        pixels = np.random.default_rng(seed).integers(0, 255, (SIZE[1], SIZE[0], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(image, quality=95)
        metadata = {
            "boxes": BOXES,
            "segms": [[], [], []],
            "names": line["objects"],
            "width": SIZE[0],
            "height": SIZE[1],
        }
        (root / "vcr1images" / line["metadata_fn"]).write_text(json.dumps(metadata))
    return root


def pair_tokenizer() -> PreTrainedTokenizerFast:
    """A WordPiece tokenizer that writes [CLS] a [SEP] b [SEP] with token types; unknown words are spelled."""
    words = ["is", "are", "what", "he", "a", "of", "holding", "knife", "hand", "casey", "riley", "person"]
    letters = string.ascii_lowercase + string.digits + string.punctuation
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *words, *(c for c in letters if c not in words)]
    pieces += ["##" + c for c in letters]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


def tiny_backbone_folder(folder: Path, seed: int = 0) -> str:
    """A random small convolutional timm backbone as a local folder; returns its `local-dir:` name."""
    import timm
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    arguments = {"depths": [1, 1, 1, 1], "dims": [8, 8, 16, 16]}
    model = timm.create_model("convnext_atto", num_classes=3, **arguments)
    save_file(model.state_dict(), folder / "model.safetensors")
    pretrained = {"input_size": [3, 32, 32], "mean": [0.5] * 3, "std": [0.5] * 3, "classifier": "head.fc"}
    pretrained |= {"num_classes": 3, "first_conv": "stem.0", "interpolation": "bilinear", "crop_pct": 1.0}
    config = {
        "architecture": "convnext_atto",
        "num_classes": 3,
        "model_args": arguments,
        "pretrained_cfg": pretrained,
    }
    (folder / "config.json").write_text(json.dumps(config))
    return f"local-dir:{folder}"


def tiny_config(model_type: str, vocab_size: int, visual_dim: int = 22):
    """A configuration of one of the six architectures, 16 wide and one or two layers deep."""
    import transformers as tf

    size = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    text = size | {"vocab_size": vocab_size, "pad_token_id": 0, "max_position_embeddings": 64}
    image = size | {"image_size": 32, "patch_size": 16}
    if model_type == "vilt":
        return tf.ViltConfig(**(text | image), max_image_length=-1)
    if model_type == "visual_bert":
        return tf.VisualBertConfig(**text, visual_embedding_dim=visual_dim)
    if model_type == "lxmert":
        layers = {"l_layers": 1, "x_layers": 1, "r_layers": 1, "num_qa_labels": 7}
        return tf.LxmertConfig(**(text | layers), visual_feat_dim=visual_dim)
    if model_type == "bridgetower":
        vision = {"hidden_size": 64, "num_hidden_layers": 2, "patch_size": 16, "image_size": 32}
        return tf.BridgeTowerConfig(**size, text_config=text, vision_config=vision)
    if model_type == "flava":
        fused = size | {"num_hidden_layers": 1}
        return tf.FlavaConfig(text_config=text, image_config=image, multimodal_config=fused, hidden_size=16)
    if model_type == "blip":
        blip_text = text | {
            "encoder_hidden_size": 16,
            "projection_dim": 16,
            "bos_token_id": 2,
            "eos_token_id": 3,
        }
        return tf.BlipConfig(
            text_config=blip_text | {"sep_token_id": 3}, vision_config=image, image_text_hidden_size=8
        )
    raise ValueError(model_type)


OF_THE_COLLATOR = ("distillation", "teacher_boxes", "model", "max_regions")


def patch_collator(tokenizer, image_transform, *, mark=True, **options):
    """VCR's collator of a student that sees patches; options: the collator's own, all others the texts'."""
    own = {name: options.pop(name) for name in OF_THE_COLLATOR if name in options}
    texts = ChoiceTexts(tokenizer, **options)
    return PatchCollator(texts, image_transform, draw=marked(texts) if mark else None, **own)


def region_collator(tokenizer, regions, **options):
    """VCR's collator of a student that reads regions, likewise."""
    own = {name: options.pop(name) for name in OF_THE_COLLATOR if name in options}
    return RegionCollator(ChoiceTexts(tokenizer, **options), regions, **own)
