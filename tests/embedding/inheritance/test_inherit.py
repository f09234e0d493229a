"""Weight inheritance: equal bits, slices by hand, teachers whose dropped parts compute nothing, and all refusals."""

import copy
import json
import sys

import numpy as np
import open_clip
import pytest
import torch
from timm.models import register_model
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from torch.nn import functional as F
from transformers import BertConfig

from cliptd.embedding.inheritance import inherit_weights, shrunk_config
from cliptd.embedding.inheritance.choice import chosen_layers
from cliptd.embedding.inheritance.resizing import (
    resize_image_positions,
    resize_patches,
    resize_text_positions,
)
from cliptd.teachers.from_open_clip import save_open_clip

HOWS = ("even", "leading", "magnitude")
VIT = {"image_size": 32, "layers": 3, "width": 32, "head_width": 8, "patch_size": 8}
RESNET = {"image_size": 64, "layers": [2, 3, 1, 2], "width": 8, "head_width": 32}
TEXT = {"context_length": 12, "vocab_size": 40, "width": 24, "heads": 3, "layers": 3}
CUSTOM = {
    "qk_norm": True, "scale_heads": True, "scale_attn_inner": True, "scale_attn": True, "scale_fc": True,
    "ls_init_value": 0.1,
}  # fmt: skip


def config_of(vision=VIT, text=TEXT, **others):
    return copy.deepcopy({"embed_dim": 16, "vision_cfg": vision, "text_cfg": text, **others})


CONFIGS = {
    "vit": config_of(),
    "quick_gelu": config_of(quick_gelu=True),
    "average pool": config_of(VIT | {"pool_type": "avg", "no_ln_pre": True, "final_ln_after_pool": True}),
    "attentional pool": config_of(
        VIT | {"attentional_pool": True, "attn_pooler_heads": 4, "attn_pooler_queries": 3}
    ),
    "attentional pool of one width": config_of(
        VIT | {"attentional_pool": True, "attn_pooler_heads": 4, "pool_type": "avg"}, embed_dim=32
    ),
    "custom blocks": config_of(VIT | CUSTOM, TEXT | CUSTOM),
    "cosine attention": config_of(text=TEXT | {"scaled_cosine_attn": True}, nonscalar_logit_scale=True),
    "siglip": config_of(
        text=TEXT | {"no_causal_mask": True, "proj_bias": True, "pool_type": "last"},
        custom_text=True,
        init_logit_bias=-10,
    ),
    "no text projection": config_of(text=TEXT | {"proj_type": "none"}, embed_dim=24),
    "class token": config_of(text=TEXT | {"embed_cls": True}, custom_text=True),
    "sines": config_of(VIT | {"pos_embed_type": "sin_cos_2d"}),
    "resnet": config_of(RESNET),
    "timm": config_of({"timm_model_name": "test_vit", "image_size": 160, "timm_pool": "token"}),
    "timm, mlp": config_of({"timm_model_name": "test_vit2", "image_size": 160, "timm_proj": "mlp"}),
    "timm, its own head": config_of({"timm_model_name": "test_resnet", "image_size": 160, "timm_proj": None}),
    "timm, no projection": config_of(
        {"timm_model_name": "test_vit", "image_size": 160, "timm_pool": "token", "timm_proj": "none"},
        embed_dim=64,
    ),
}

OPEN_CLIP_FAILS = ("cosine attention",)
"""open_clip 3.3 builds these, but its own forward raises."""


def randomised(model, seed=0):
    """Draw every tensor anew, so that no norm is 1 and no bias 0, and set eval mode."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in model.state_dict().items():
        if name == "logit_scale":
            continue
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 1.5, generator=generator)
        elif tensor.is_floating_point():
            tensor.normal_(0, 0.3 if tensor.dim() < 2 else tensor[0].numel() ** -0.5, generator=generator)
            if tensor.dim() < 2 and name.endswith("weight"):
                tensor.add_(1)
    return model.eval()


def build(config, seed=0):
    """A random open_clip model of the config, by open_clip's own classes."""
    config = copy.deepcopy(config)
    own_text = config.pop("custom_text", False) or config["text_cfg"].get("hf_model_name")
    torch.manual_seed(0)
    return randomised((open_clip.CustomTextCLIP if own_text else open_clip.CLIP)(**config), seed)


def inputs(model, batch=3):
    generator = torch.Generator().manual_seed(1)
    size = model.visual.image_size
    size = (size, size) if isinstance(size, int) else size
    context = min(model.context_length, 12)
    texts = torch.randint(1, model.vocab_size, (batch, context), generator=generator)
    return torch.randn(batch, 3, *size, generator=generator), texts


@torch.no_grad()
def outputs(model, images, texts):
    return model.encode_image(images), model.encode_text(texts), model.logit_scale


def assert_equal_bits(first, second):
    first, second = first.state_dict(), second.state_dict()
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("kind", CONFIGS)
def test_the_same_config_gives_the_same_bits(kind, how):
    teacher = build(CONFIGS[kind])
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    generator_state = torch.random.get_rng_state()
    student = inherit_weights(teacher, CONFIGS[kind], how)
    assert torch.equal(torch.random.get_rng_state(), generator_state)
    assert type(student) is type(teacher)
    assert_equal_bits(student, teacher)
    if kind not in OPEN_CLIP_FAILS:
        given = inputs(teacher)
        for found, expected in zip(outputs(student.eval(), *given), outputs(teacher, *given), strict=True):
            assert torch.equal(found, expected)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(1)
    assert all(torch.equal(before[name], tensor) for name, tensor in teacher.state_dict().items())


@pytest.mark.parametrize(
    ("total", "kept", "expected"),
    [
        (12, 9, [0, 1, 3, 4, 6, 7, 8, 10, 11]),
        (12, 6, [0, 2, 4, 7, 9, 11]),
        (12, 4, [0, 4, 7, 11]),
        (12, 3, [0, 6, 11]),
        (12, 2, [0, 11]),
        (12, 1, [0]),
        (6, 6, [0, 1, 2, 3, 4, 5]),
    ],
)
def test_layers_are_evenly_spaced_or_the_first(total, kept, expected):
    assert chosen_layers(total, kept, "even") == chosen_layers(total, kept, "magnitude") == expected
    assert chosen_layers(total, kept, "leading") == list(range(kept))


@pytest.mark.parametrize(("how", "layers"), [("even", [0, 2]), ("leading", [0, 1])])
def test_a_slice_by_hand(how, layers):
    """Width 32 → 16, so heads of 8 go 4 → 2 and units 128 → 64; text 24 → 8; embedding 16 → 6."""
    teacher = build(CONFIGS["vit"])
    config = shrunk_config(
        CONFIGS["vit"], layers=2, width=16, text_layers=2, text_width=8, embed_dim=6, patch_size=8
    )
    assert config["text_cfg"] == TEXT | {"layers": 2, "width": 8, "heads": 1}
    t, found = teacher.state_dict(), inherit_weights(teacher, config, how).state_dict()
    expected = {
        "logit_scale": t["logit_scale"],
        "visual.class_embedding": t["visual.class_embedding"][:16],
        "visual.positional_embedding": t["visual.positional_embedding"][:, :16],
        "visual.conv1.weight": t["visual.conv1.weight"][:16],
        "visual.proj": t["visual.proj"][:16, :6],
        "token_embedding.weight": t["token_embedding.weight"][:, :8],
        "positional_embedding": t["positional_embedding"][:, :8],
        "text_projection": t["text_projection"][:8, :6],
    }
    for name, width in (("visual.ln_pre", 16), ("visual.ln_post", 16), ("ln_final", 8)):
        expected |= {f"{name}.{part}": t[f"{name}.{part}"][:width] for part in ("weight", "bias")}
    for tower, old, new in (("visual.transformer", 32, 16), ("transformer", 24, 8)):
        for i, layer in enumerate(layers):
            block, source = f"{tower}.resblocks.{i}.", f"{tower}.resblocks.{layer}."
            qkv, bias = t[source + "attn.in_proj_weight"], t[source + "attn.in_proj_bias"]
            starts = (0, old, 2 * old)
            expected |= {
                block + "attn.in_proj_weight": torch.cat([qkv[a : a + new, :new] for a in starts]),
                block + "attn.in_proj_bias": torch.cat([bias[a : a + new] for a in starts]),
                block + "attn.out_proj.weight": t[source + "attn.out_proj.weight"][:new, :new],
                block + "mlp.c_fc.weight": t[source + "mlp.c_fc.weight"][: 4 * new, :new],
                block + "mlp.c_fc.bias": t[source + "mlp.c_fc.bias"][: 4 * new],
                block + "mlp.c_proj.weight": t[source + "mlp.c_proj.weight"][:new, : 4 * new],
            }
            vectors = (
                "ln_1.weight",
                "ln_1.bias",
                "ln_2.weight",
                "ln_2.bias",
                "attn.out_proj.bias",
                "mlp.c_proj.bias",
            )
            expected |= {block + name: t[source + name][:new] for name in vectors}
    assert expected.keys() == found.keys()
    for name in expected:
        assert torch.equal(found[name], expected[name]), name


def widened(student, how, layers=(5, 5)):
    """A teacher twice as wide that computes what the student does, by index arithmetic on the student's tensors.

    The stream holds every channel twice, so its LayerNorms see the same mean and variance; only one copy is read. The
    other heads, units and embedding dimensions say nothing, the other layers add 0. Where "magnitude" must find the
    parts that matter, their places are random.
    """
    rng = np.random.default_rng(0)
    s, teacher = student.state_dict(), {}

    def places(kept, total):
        return np.sort(rng.permutation(total)[:kept]) if how == "magnitude" else np.arange(kept)

    def stream(width):
        kept = places(width, 2 * width)
        copies = np.empty(2 * width, dtype=np.int64)
        copies[kept], others = np.arange(width), np.setdiff1d(np.arange(2 * width), kept)
        copies[others] = rng.permutation(width)
        return torch.from_numpy(copies), torch.from_numpy(kept)

    def spread(tensor, kept, total, dim):
        result = torch.zeros(*tensor.shape[:dim], total, *tensor.shape[dim + 1 :])
        return result.index_copy_(dim, torch.as_tensor(kept), tensor)

    embed = places(16, 40)
    for tower, text, width, head_width, depth in (
        ("visual.", False, 32, 8, layers[0]),
        ("", True, 24, 8, layers[1]),
    ):
        copies, read = stream(width)
        heads, units = width // head_width, 4 * width
        for name in s:
            if name == "logit_scale" or name.startswith("visual.") == text or "resblocks" in name:
                continue
            if name in ("visual.proj", "text_projection"):
                teacher[name] = spread(spread(s[name], read, 2 * width, 0), embed, 40, 1)
            else:
                channels = 1 if "positional" in name or "token_embedding" in name else 0
                teacher[name] = s[name].index_select(channels, copies)
        kept_layers = [0, 2, 4] if how != "leading" else [0, 1, 2]
        for layer in range(depth):
            block, is_kept = f"{tower}transformer.resblocks.{layer}.", layer in kept_layers
            source = f"{tower}transformer.resblocks.{kept_layers.index(layer) if is_kept else 0}."
            kept_heads, kept_units = places(heads, 2 * heads), places(units, 2 * units)
            for name in ("ln_1.weight", "ln_1.bias", "ln_2.weight", "ln_2.bias"):
                teacher[block + name] = s[source + name][copies]
            qkv = s[source + "attn.in_proj_weight"].view(3, heads, head_width, width)
            qkv = spread(spread(qkv, kept_heads, 2 * heads, 1), read, 2 * width, 3)
            teacher[block + "attn.in_proj_weight"] = qkv.reshape(6 * width, 2 * width)
            bias = spread(
                s[source + "attn.in_proj_bias"].view(3, heads, head_width), kept_heads, 2 * heads, 1
            )
            teacher[block + "attn.in_proj_bias"] = bias.reshape(-1)
            out = s[source + "attn.out_proj.weight"].view(width, heads, head_width)
            out = spread(out, kept_heads, 2 * heads, 1)[copies].reshape(2 * width, 2 * width)
            c_fc = spread(spread(s[source + "mlp.c_fc.weight"], kept_units, 2 * units, 0), read, 2 * width, 1)
            c_proj = spread(s[source + "mlp.c_proj.weight"], kept_units, 2 * units, 1)[copies]
            teacher[block + "mlp.c_fc.weight"] = c_fc
            teacher[block + "mlp.c_fc.bias"] = spread(s[source + "mlp.c_fc.bias"], kept_units, 2 * units, 0)
            silent = 1.0 if is_kept else 0.0
            teacher[block + "attn.out_proj.weight"] = out * silent
            teacher[block + "mlp.c_proj.weight"] = c_proj * silent
            for name in ("attn.out_proj.bias", "mlp.c_proj.bias"):
                teacher[block + name] = s[source + name][copies] * silent
    config = config_of(
        VIT | {"layers": layers[0], "width": 64},
        TEXT | {"layers": layers[1], "width": 48, "heads": 6},
        embed_dim=40,
    )
    model = build(config)
    model.load_state_dict(teacher | {"logit_scale": s["logit_scale"]})
    return model, embed


@pytest.mark.parametrize("how", HOWS)
def test_a_teacher_that_says_no_more_than_its_kept_parts_gives_its_function(how):
    original = build(CONFIGS["vit"], seed=5)
    teacher, embed = widened(original, how)
    student = inherit_weights(teacher, CONFIGS["vit"], how).eval()
    assert_equal_bits(student, original)
    given = inputs(teacher)
    images, texts, _ = outputs(teacher, *given)
    student_images, student_texts, _ = outputs(student, *given)
    torch.testing.assert_close(student_images, images[:, embed], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(student_texts, texts[:, embed], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(
        F.cosine_similarity(student_images, student_texts),
        F.cosine_similarity(images, texts),
        atol=1e-4,
        rtol=1e-4,
    )
    other = inherit_weights(teacher, CONFIGS["vit"], "leading" if how == "even" else "even").eval()
    assert not torch.allclose(outputs(other, *given)[0], student_images, atol=1e-2)


def test_a_resnet_that_says_no_more_than_its_leading_parts_gives_its_function():
    """Every tensor is the student's with zeros around it; batch norm treats each channel alone."""
    original = build(CONFIGS["resnet"], seed=5)
    config = config_of(RESNET | {"layers": [3, 3, 4, 2], "width": 12}, embed_dim=20)
    teacher, s = build(config), original.state_dict()
    for name, tensor in teacher.state_dict().items():
        if name in s and name.startswith("visual."):
            tensor.zero_()
            tensor[tuple(slice(size) for size in s[name].shape)] = s[name]
        elif name in s and name != "text_projection":
            tensor.copy_(s[name])
        elif "bn3" in name:  # a block that adds 0
            tensor.zero_()
        if name.endswith("running_var"):
            tensor.clamp_(min=1e-3)
    teacher.text_projection.data.zero_()[:, :16] = original.text_projection.data
    student = inherit_weights(teacher, CONFIGS["resnet"], "leading").eval()
    assert_equal_bits(student, original)
    images, texts, _ = outputs(teacher, *inputs(teacher))
    student_images, student_texts, _ = outputs(student, *inputs(teacher))
    torch.testing.assert_close(student_images, images[:, :16], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(student_texts, texts[:, :16], atol=1e-4, rtol=1e-4)


def test_importance_is_the_sum_of_weights_that_read_or_write():
    """Compare with numpy in float64: a channel of the stream, a head, a unit and a dimension of the embedding."""
    teacher = build(CONFIGS["vit"], seed=3)
    t = {name: np.abs(tensor.numpy().astype(np.float64)) for name, tensor in teacher.state_dict().items()}
    channel = t["visual.conv1.weight"].sum((1, 2, 3)) + t["visual.positional_embedding"].sum(0)
    channel += t["visual.proj"].sum(1)
    for i in range(3):
        block = f"visual.transformer.resblocks.{i}."
        channel += t[block + "attn.in_proj_weight"].sum(0) + t[block + "attn.out_proj.weight"].sum(1)
        channel += t[block + "mlp.c_fc.weight"].sum(0) + t[block + "mlp.c_proj.weight"].sum(1)
    channels = np.sort(np.argsort(-channel)[:16])
    embed = np.sort(np.argsort(-t["visual.proj"].sum(0) - t["text_projection"].sum(0))[:6])
    config = shrunk_config(CONFIGS["vit"], width=16, embed_dim=6)
    student = inherit_weights(teacher, config, "magnitude").state_dict()
    t = {name: tensor.numpy() for name, tensor in teacher.state_dict().items()}
    np.testing.assert_array_equal(student["visual.class_embedding"], t["visual.class_embedding"][channels])
    np.testing.assert_array_equal(student["visual.proj"], t["visual.proj"][channels][:, embed])
    np.testing.assert_array_equal(student["text_projection"], t["text_projection"][:, embed])
    for i in range(3):
        block = f"visual.transformer.resblocks.{i}."
        qkv, out = t[block + "attn.in_proj_weight"], t[block + "attn.out_proj.weight"]
        head = [
            np.abs(qkv.reshape(3, 4, 8, 32)[:, h]).sum() + np.abs(out[:, 8 * h : 8 * h + 8]).sum()
            for h in range(4)
        ]
        heads = np.sort(np.argsort(head)[2:])
        rows = np.concatenate([np.arange(8 * h, 8 * h + 8) for h in heads])
        expected = np.concatenate([qkv[32 * part + rows] for part in range(3)])[:, channels]
        np.testing.assert_array_equal(student[block + "attn.in_proj_weight"], expected)
        np.testing.assert_array_equal(student[block + "attn.out_proj.weight"], out[channels][:, rows])
        fc, proj = t[block + "mlp.c_fc.weight"], t[block + "mlp.c_proj.weight"]
        units = np.sort(np.argsort(-np.abs(fc).sum(1) - np.abs(proj).sum(0))[:64])
        np.testing.assert_array_equal(student[block + "mlp.c_fc.weight"], fc[units][:, channels])
        np.testing.assert_array_equal(student[block + "mlp.c_proj.weight"], proj[channels][:, units])


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("kind", [kind for kind in CONFIGS if kind not in OPEN_CLIP_FAILS])
def test_a_smaller_student_runs_and_open_clip_loads_its_folder(kind, how, tmp_path):
    config, teacher = CONFIGS[kind], build(CONFIGS[kind])
    changes = {"text_width": 16, "text_layers": 2, "embed_dim": 8}
    if kind == "no text projection":
        changes["embed_dim"] = 16
    if kind in ("timm, no projection", "attentional pool of one width"):
        changes.pop("embed_dim")
    if kind == "attentional pool of one width":
        changes["layers"] = 1
    elif "timm_model_name" not in config["vision_cfg"]:
        changes |= {"width": 4, "layers": [1, 2, 1, 1]} if kind == "resnet" else {"width": 16, "layers": 1}
    small = shrunk_config(config, **changes)
    teacher.visual.preprocess_cfg = {
        "mean": (0.5, 0.5, 0.5),
        "std": (0.25, 0.25, 0.25),
        "resize_mode": "squash",
    }
    student = inherit_weights(teacher, small, how).eval()
    preprocess = dict(student.visual.preprocess_cfg)
    assert preprocess["mean"] == (0.5, 0.5, 0.5)
    save_open_clip(student, tmp_path, config={"model_cfg": small, "preprocess_cfg": preprocess})
    loaded, _, transform = open_clip.create_model_and_transforms(f"local-dir:{tmp_path}")
    assert type(loaded) is type(student)
    assert "std=[0.25, 0.25, 0.25]" in str(transform)
    given = inputs(student)
    found = outputs(loaded.eval(), *given)
    for first, second in zip(found, outputs(student, *given), strict=True):
        assert torch.equal(first, second)
    assert found[0].shape == found[1].shape == (3, small["embed_dim"])


def test_positions_and_patches_are_interpolated():
    constant = torch.arange(5.0).repeat(17, 1)
    found = resize_image_positions(constant, (4, 4), (3, 7))
    torch.testing.assert_close(found, torch.arange(5.0).repeat(22, 1))
    marked = constant.clone()
    marked[0] = 9.0
    assert torch.equal(resize_image_positions(marked, (4, 4), (2, 2))[0], marked[0])
    torch.testing.assert_close(resize_text_positions(constant, (17,), (9,)), torch.arange(5.0).repeat(9, 1))
    ramp = torch.arange(12.0)[:, None]
    torch.testing.assert_close(resize_text_positions(ramp, (12,), (6,))[:, 0], torch.arange(6.0) * 2 + 0.5)
    with_class = torch.cat([ramp, torch.tensor([[99.0]])])
    assert resize_text_positions(with_class, (12,), (6,))[-1] == 99.0
    ascending = torch.cat([torch.zeros(1, 2), torch.cartesian_prod(torch.arange(4.0), torch.arange(2.0))])
    grid = resize_image_positions(ascending, (4, 2), (2, 2))[1:].view(2, 2, 2)
    assert (grid[1, :, 0] > grid[0, :, 0]).all()
    torch.testing.assert_close(grid[:, :, 1], ascending[1:3, 1].expand(2, 2))


def test_a_larger_patch_says_of_the_enlarged_image_what_the_patch_said():
    kernel, patch = torch.randn(5, 3, 16), torch.randn(2, 3, 4, 4)
    larger = resize_patches(kernel, (4, 4), (8, 8)).view(5, 3, 8, 8)
    enlarged = F.interpolate(patch, size=(8, 8), mode="bicubic", antialias=True)
    before = F.conv2d(patch, kernel.view(5, 3, 4, 4))
    torch.testing.assert_close(F.conv2d(enlarged, larger), before, atol=1e-4, rtol=1e-4)
    flat = torch.ones(1, 3, 8, 8)
    torch.testing.assert_close(F.conv2d(flat, larger).flatten(), kernel.sum((1, 2)), atol=1e-4, rtol=1e-4)


def test_a_student_of_other_patches_image_and_context():
    teacher = build(CONFIGS["vit"])
    config = shrunk_config(CONFIGS["vit"], patch_size=16)
    config["vision_cfg"]["image_size"] = 64
    config["text_cfg"]["context_length"] = 6
    student = inherit_weights(teacher, config).eval()
    assert student.visual.positional_embedding.shape == (17, 32)
    assert student.positional_embedding.shape == (6, 24)
    assert torch.equal(student.visual.positional_embedding, teacher.visual.positional_embedding)  # 4 × 4 both
    small = torch.randn(2, 3, 32, 32)
    tiles = small.unfold(2, 8, 8).unfold(3, 8, 8).reshape(-1, 1, 8, 8)
    large = F.interpolate(tiles, (16, 16), mode="bicubic", antialias=True).view(2, 3, 4, 4, 16, 16)
    large = large.permute(0, 1, 2, 4, 3, 5).reshape(2, 3, 64, 64)  # every patch enlarged by itself
    with torch.no_grad():
        torch.testing.assert_close(student.visual(large), teacher.visual(small), atol=1e-3, rtol=1e-3)
    resnet = inherit_weights(build(CONFIGS["resnet"]), config_of(RESNET | {"image_size": 96}))
    assert resnet.visual.attnpool.positional_embedding.shape == (10, 256)


def test_clip_and_custom_text_clip_share_weights_and_half_precision_becomes_float32():
    teacher = build(CONFIGS["vit"])
    student = inherit_weights(teacher, CONFIGS["vit"] | {"custom_text": True}).eval()
    assert isinstance(student, open_clip.CustomTextCLIP)
    back = inherit_weights(student, CONFIGS["vit"])
    assert_equal_bits(back, teacher)
    given = inputs(teacher)
    for found, expected in zip(outputs(student, *given), outputs(teacher, *given), strict=True):
        torch.testing.assert_close(found, expected)
    config = shrunk_config(CONFIGS["vit"], width=16, patch_size=16)
    half = copy.deepcopy(teacher).half()
    assert_equal_bits(
        inherit_weights(half, config, "magnitude"), inherit_weights(half.float(), config, "magnitude")
    )


def _tiny_timm_vit(depth, **changes):
    def create(pretrained=False, **options):
        sizes = {"img_size": 32, "patch_size": 16, "embed_dim": 32, "num_heads": 2, "depth": depth} | changes
        accepted = ("num_classes", "global_pool", "drop_path_rate")
        model = VisionTransformer(**sizes, **{key: options[key] for key in accepted if key in options})
        model.default_cfg = {}
        return model

    return create


@pytest.fixture(scope="module")
def timm_vits():
    """Image towers of timm by name; those of one width differ in depth or in their number of heads."""
    vits = {"vit6": {"depth": 6}, "vit3": {"depth": 3}, "vit3_heads": {"depth": 3, "num_heads": 4}}
    vits |= {"vit3_wide": {"depth": 3, "embed_dim": 64}, "vit3_elu": {"depth": 3, "act_layer": nn.ELU}}
    names = {}
    for name, sizes in vits.items():
        create = _tiny_timm_vit(**sizes)
        create.__name__, create.__module__ = f"inheritance_{name}", __name__
        sys.modules[__name__].default_cfgs = {}
        register_model(create)
        names[name] = config_of(
            {
                "timm_model_name": create.__name__,
                "image_size": 32,
                "timm_pool": "token",
                "timm_drop_path": 0.1,
            }
        )
    return names


def test_a_timm_tower_keeps_its_widths_and_may_lose_layers(timm_vits):
    teacher = build(timm_vits["vit6"])
    student = inherit_weights(teacher, timm_vits["vit3"], "even")
    blocks = teacher.visual.trunk.blocks
    for i, layer in enumerate((0, 3, 5)):
        assert_equal_bits(student.visual.trunk.blocks[i], blocks[layer])
    assert_equal_bits(student.visual.head, teacher.visual.head)
    student = inherit_weights(teacher, timm_vits["vit3"], "leading")
    assert_equal_bits(student.visual.trunk.blocks, blocks[:3])
    for name, reason in (
        (
            "vit3_heads",
            r"num_heads: the student's config asks for 4, the teacher has 2.*copy this setting",
        ),
        (
            "vit3_wide",
            r"cls_token\[2\] is 64 in the student's config and 32 in the teacher, but it cannot change",
        ),
        ("vit3_elu", r"mlp.act: the student's config asks for ELU, the teacher has GELU"),
    ):
        with pytest.raises(ValueError, match=reason):
            inherit_weights(teacher, timm_vits[name])
    with pytest.raises(ValueError, match=r"asks for 6 layers, the teacher has 3.*lower layers"):
        inherit_weights(build(timm_vits["vit3"]), timm_vits["vit6"])


def test_a_transformers_text_tower_keeps_its_widths_and_may_lose_layers(tmp_path):
    sizes = {"vocab_size": 40, "hidden_size": 24, "num_attention_heads": 2, "intermediate_size": 32}
    configs = {}
    for depth in (4, 2):
        BertConfig(**sizes, num_hidden_layers=depth, pad_token_id=0).save_pretrained(tmp_path / str(depth))
        text = {"hf_model_name": str(tmp_path / str(depth)), "hf_pooler_type": "mean_pooler"}
        configs[depth] = config_of(text=text | {"hf_model_pretrained": False, "hf_proj_type": "mlp"})
    teacher = build(configs[4])
    given = inputs(teacher)
    same = inherit_weights(teacher, configs[4]).eval()
    assert torch.equal(outputs(same, *given)[1], outputs(teacher, *given)[1])
    student = inherit_weights(
        teacher, shrunk_config(configs[2], layers=2, width=16, embed_dim=8), "magnitude"
    )
    layers = teacher.text.transformer.encoder.layer
    for i, layer in enumerate((0, 3)):
        assert_equal_bits(student.text.transformer.encoder.layer[i], layers[layer])
    assert student.text.proj[0].weight.shape == ((24 + 8) // 2, 24)
    with pytest.raises(ValueError, match=r"asks for 4 layers, the teacher has 2"):
        inherit_weights(build(configs[2]), configs[4])
    with pytest.raises(ValueError, match=r"the text tower is .*2, which has one size only, so layers=1"):
        shrunk_config(configs[2], text_layers=1)


def changed(config, **changes):
    """`vision__width=48` sets config["vision_cfg"]["width"]."""
    config = copy.deepcopy(config)
    for name, value in changes.items():
        tower, _, key = name.rpartition("__")
        (config[f"{tower}_cfg"] if tower else config)[key] = value
    return config


REFUSED = {
    "wider": ({"vision__width": 48}, r"visual.hidden is 48 .*wider than the teacher's 32.*lower width"),
    "wider text": ({"text__width": 32, "text__heads": 4}, r"text.hidden is 32.*wider than the teacher's 24"),
    "wider embedding": ({"embed_dim": 20}, r"embed is 20 .*wider than the teacher's 16.*lower embed_dim"),
    "wider mlp": ({"vision__mlp_ratio": 5.0}, r"units is 160.*wider than the teacher's 128.*lower mlp_ratio"),
    "deeper": ({"vision__layers": 4}, r"visual.*resblocks: .* asks for 4 layers, the teacher has 3.*lower layers"),
    "deeper text": ({"text__layers": 4}, r"text.transformer.resblocks: .* asks for 4 layers, the teacher has 3"),
    "vocabulary": ({"text__vocab_size": 41}, r"text.vocabulary is 41 .* and 40 in the teacher.*set vocab_size"),
    "head width": ({"vision__head_width": 16}, r"head_width is 16 .* and 8 in the teacher.*set head_width"),
    "text heads": ({"text__width": 16}, r"width 16 does not divide into its 3 heads"),
    "text head width": ({"text__heads": 4}, r"head_width is 6 .* and 8 in the teacher"),
    "no whole heads": ({"vision__width": 20}, r"20 channels do not divide into heads of 8.*take 16 or 24"),
    "ResNet": ({"vision_cfg": RESNET}, r"asks for a ModifiedResNet as image tower, the teacher's is a VisionTrans"),
    "bias": ({"init_logit_bias": -10}, r"asks for logit_bias, which the teacher lacks; take the teacher's config"),
    "layer scale": ({"text__ls_init_value": 0.1}, r"asks for text.transformer.resblocks.0.ls_1.gamma, .* and 3 more"),
    "no norm": ({"vision__no_ln_pre": True}, r"the teacher has visual.ln_pre.weight, .*the student's config lacks"),
    "activation": ({"quick_gelu": True}, r"mlp.gelu: .* asks for QuickGELU, the teacher has GELU.*copy this setting"),
    "pooling": ({"vision__pool_type": "avg"}, r"visual.pool_type: .* asks for avg, the teacher has tok"),
    "text pooling": ({"text__pool_type": "last"}, r"text.pool_type: .* asks for last, the teacher has argmax"),
    "mask": ({"text__no_causal_mask": True}, r"text.causal mask: .* asks for False, the teacher has True"),
    "epsilon": ({"text__norm_kwargs": {"eps": 1e-6}}, r"eps: .* asks for 1e-06, the teacher has 1e-05"),
    "no projection": ({"text__proj_type": "none"}, r"the teacher has text.text_projection, which the"),
    "unknown key": ({"vision__layer": 2}, r"open_clip cannot build the student's config: TypeError .*'layer'"),
    "CoCa": ({"multimodal_cfg": {}}, r"a CoCa's"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_inherited_is_refused(case):
    changes, reason = REFUSED[case]
    with pytest.raises(ValueError, match=reason):
        inherit_weights(build(CONFIGS["vit"]), changed(CONFIGS["vit"], **changes))


def test_other_refusals(monkeypatch):
    teacher = build(CONFIGS["vit"])
    with pytest.raises(ValueError, match="how is 'first'; expected one of even, leading, magnitude"):
        inherit_weights(teacher, CONFIGS["vit"], "first")
    with pytest.raises(TypeError, match=r"found a VisionTransformer; give an open_clip CLIP"):
        inherit_weights(teacher.visual, CONFIGS["vit"])
    with pytest.raises(ValueError, match=r"the config has model_cfg but no embed_dim.*give its model_cfg"):
        inherit_weights(teacher, {"model_cfg": CONFIGS["vit"]})
    with pytest.raises(ValueError, match=r"visual.output and 8 in text.text_projection"):
        inherit_weights(
            build(CONFIGS["timm, no projection"]), changed(CONFIGS["timm, no projection"], embed_dim=8)
        )
    with pytest.raises(ValueError, match=r"visual.hidden is 16 in the student's config, wider than"):
        inherit_weights(
            build(changed(CONFIGS["vit"], vision__width=8)), shrunk_config(CONFIGS["vit"], width=16)
        )
    teacher.visual.extra = nn.Parameter(torch.zeros(3))
    with pytest.raises(ValueError, match=r"the teacher has visual.extra, which the student's config lacks"):
        inherit_weights(teacher, CONFIGS["vit"])
    monkeypatch.setattr(
        open_clip, "CLIP", type("WithExtra", (open_clip.CLIP,), {"__init__": _init_with_extra})
    )
    with pytest.raises(ValueError, match=r"no rule says how to inherit visual.extra"):
        inherit_weights(open_clip.CLIP(**CONFIGS["vit"]), CONFIGS["vit"])


def _init_with_extra(self, *arguments, **options):
    super(type(self), self).__init__(*arguments, **options)
    self.visual.extra = nn.Parameter(torch.zeros(3))


def test_shrunk_configs():
    config = open_clip.get_model_config("ViT-B-16")
    before = json.dumps(config)
    small = shrunk_config(
        config, layers=6, width=512, text_layers=3, text_width=256, embed_dim=256, patch_size=32
    )
    assert json.dumps(config) == before
    assert small["embed_dim"] == 256
    assert small["vision_cfg"] == {"image_size": 224, "layers": 6, "width": 512, "patch_size": 32}
    assert small["text_cfg"] == config["text_cfg"] | {"layers": 3, "width": 256, "heads": 4}
    assert shrunk_config(config) == config
    assert shrunk_config(open_clip.get_model_config("RN50"), layers=(1, 1, 2, 1))["vision_cfg"]["layers"] == [
        1,
        1,
        2,
        1,
    ]
    for name in open_clip.list_models():
        known = open_clip.get_model_config(name)
        assert shrunk_config(known) == known
    for changes, reason in (
        (
            {"width": 500},
            r"500 channels do not divide into heads of 64, which keep their width; take 448 or 512",
        ),
        ({"text_width": 100}, r"text_width: 100 channels do not divide into heads of 64.*take 64 or 128"),
        ({"layers": 0}, r"layers is 0; expected at least 1"),
        ({"embed_dim": -1}, r"embed_dim is -1; expected at least 1"),
        ({"layers": (1, 2)}, r"layers is \(1, 2\); this image tower's are 12, so expected one number"),
    ):
        with pytest.raises(ValueError, match=reason):
            shrunk_config(config, **changes)
    with pytest.raises(ValueError, match=r"layers is 2; .* are \[3, 4, 6, 3\], so expected 4 numbers"):
        shrunk_config(open_clip.get_model_config("RN50"), layers=2)
    with pytest.raises(ValueError, match=r"a ResNet, which has no patches"):
        shrunk_config(open_clip.get_model_config("RN50"), patch_size=16)
    with pytest.raises(ValueError, match=r"is convnext_base, which has one size only, so layers=2, width=64"):
        shrunk_config(open_clip.get_model_config("convnext_base"), layers=2, width=64)
