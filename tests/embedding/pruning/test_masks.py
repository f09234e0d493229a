"""Masks and pruning on tiny models: open masks change nothing, closed ones shrink the model without changing it."""

import copy

import open_clip
import pytest
import torch
from torch import nn

from cliptd.embedding.pruning.masked_model import MaskedDualEncoder, OpenChannelsNorm
from cliptd.embedding.pruning.prune import hardened, keep, prune, uniform_shape
from cliptd.embedding.pruning.tower_masks import TowerMasks, TowerShape
from cliptd.teachers import load_teacher
from cliptd.teachers.from_open_clip import save_open_clip
from tests.helpers.tiny_clip import tiny_open_clip_folder

PIXELS = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
TEXTS = ["a red dog", "two birds in a tree", "why"]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    return load_teacher(str(tiny_open_clip_folder(tmp_path_factory.mktemp("teacher"), seed=1)))


@pytest.fixture(params=["CLIP", "CustomTextCLIP"])
def model_and_config(request, teacher):
    config = copy.deepcopy(teacher.config["model_cfg"])
    if request.param == "CLIP":
        return copy.deepcopy(teacher.model), config
    config["text_cfg"].pop("hf_tokenizer_name")
    config["custom_text"] = True
    torch.manual_seed(0)
    model = open_clip.CustomTextCLIP(**{key: value for key, value in config.items() if key != "custom_text"})
    return model.eval(), config


@pytest.fixture
def tokens(teacher):
    return teacher.tokenize(TEXTS)


def scatter_masks(masked):
    """Masks that lie anywhere, many closed."""
    torch.manual_seed(5)
    with torch.no_grad():
        for masks in masked.masks.values():
            for mask in (masks.hidden, masks.heads, masks.units):
                mask.log_alpha.copy_(2 * torch.randn_like(mask.log_alpha))


def test_open_masks_change_nothing_and_leave_no_trace(model_and_config, tokens):
    model, _ = model_and_config
    image, text, names = model.encode_image(PIXELS), model.encode_text(tokens), list(model.state_dict())
    masked = MaskedDualEncoder(model).eval()
    torch.testing.assert_close(masked.encode_image(PIXELS), image, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(masked.encode_text(tokens), text, rtol=1e-5, atol=1e-5)
    assert masked.logit_scale is model.logit_scale
    again = masked.unmasked()
    assert again is model
    assert list(again.state_dict()) == names
    assert torch.equal(again.encode_image(PIXELS), image)
    assert not any(isinstance(module, OpenChannelsNorm) for module in again.modules())


def test_only_the_towers_that_were_asked_for_are_masked(model_and_config, tokens):
    model, _ = model_and_config
    text = model.encode_text(tokens)
    masked = MaskedDualEncoder(model, towers=("image",)).eval()
    scatter_masks(masked)
    assert torch.equal(masked.encode_text(tokens), text)
    assert set(masked.expected_sparsity()) == {"image"}


def test_samples_in_training_reach_masks_and_weights_by_their_gradients(model_and_config, tokens):
    masked = MaskedDualEncoder(model_and_config[0].requires_grad_(True)).train()
    scatter_masks(masked)
    first = masked.encode_image(PIXELS)
    assert torch.equal(first, masked.encode_image(PIXELS))  # the sample of this step, on whatever process
    loss = first.square().sum() + masked.encode_text(tokens).square().sum() + masked.next_price()
    assert not torch.equal(first, masked.encode_image(PIXELS))  # of the next one
    loss.backward()
    for masks in masked.masks.values():
        for mask in (masks.hidden, masks.heads, masks.units):
            assert mask.log_alpha.grad.abs().sum() > 0
    assert masked.visual.conv1.weight.grad.abs().sum() > 0


def test_the_expected_sparsity_counts_every_matrix():
    masks = TowerMasks(TowerShape(layers=2, width=6, heads=3, units=5))
    torch.manual_seed(0)
    with torch.no_grad():
        for mask in (masks.hidden, masks.heads, masks.units):
            mask.log_alpha.copy_(torch.randn_like(mask.log_alpha))
    hidden, heads, units = (m.probability_open().tolist() for m in (masks.hidden, masks.heads, masks.units))
    left = 0.0
    for layer in range(2):
        for channel in hidden:
            left += sum(
                4 * 2 * channel * head for head in heads[layer]
            )  # q, k, v and output of two rows each
            left += sum(2 * channel * unit for unit in units[layer])
    whole = 2 * 6 * (4 * 6 + 2 * 5)
    assert masks.shape.parameters == whole
    sparsity = masks.expected_sparsity()
    assert sparsity.item() == pytest.approx(1 - left / whole)
    with torch.no_grad():
        masks.lambdas.copy_(torch.tensor([3.0, -2.0]))
    price = masks.price(0.1)
    excess = sparsity.item() - 0.1
    assert price.item() == pytest.approx(3 * excess - 2 * excess**2)
    price.backward()
    torch.testing.assert_close(masks.lambdas.grad, -torch.tensor([excess, excess**2]))  # they climb


def test_of_decided_masks_the_expected_and_the_real_sparsity_agree():
    masks = TowerMasks(TowerShape(layers=2, width=32, heads=4, units=64))
    torch.manual_seed(0)
    for mask in (masks.hidden, masks.heads, masks.units):
        mask.log_alpha.data.copy_(8 * torch.randn_like(mask.log_alpha).sign())
    assert 0.2 < masks.real_sparsity() < 0.95
    assert masks.expected_sparsity().item() == pytest.approx(masks.real_sparsity(), abs=0.01)


def test_the_norm_looks_at_open_channels_only():
    torch.manual_seed(0)
    norm, x = nn.LayerNorm(6), torch.randn(4, 6)
    with torch.no_grad():
        norm.weight.normal_()
        norm.bias.normal_()
    masked = OpenChannelsNorm(norm, "image")
    torch.testing.assert_close(masked(x), norm(x))
    open_channels = [0, 2, 3]
    masked.is_open.zero_()[open_channels] = 1
    found = masked(x)
    expected = nn.functional.layer_norm(
        x[:, open_channels], (3,), norm.weight[open_channels], norm.bias[open_channels]
    )
    torch.testing.assert_close(found[:, open_channels], expected)
    assert not found[:, [1, 4, 5]].any()
    assert masked(x.bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize("sparsity", [0.0, 0.4, 0.7])
def test_the_pruned_model_is_a_plain_one_and_does_what_the_masked_one_did(
    sparsity, model_and_config, teacher, tokens, tmp_path
):
    model, config = model_and_config
    masked = MaskedDualEncoder(model).eval()
    scatter_masks(masked)
    for masks in masked.masks.values():
        values = hardened(masks, keep(masks, uniform_shape(masks, sparsity)))
        masks.forward = lambda generator, values=values: values
    image, text = masked.encode_image(PIXELS), masked.encode_text(tokens)
    whole = {tower: masks.shape for tower, masks in masked.masks.items()}
    pruned, new_config = prune(masked, config, sparsity)
    torch.testing.assert_close(pruned.eval().encode_image(PIXELS), image, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(pruned.encode_text(tokens), text, rtol=1e-5, atol=1e-5)
    left = pruned.visual.transformer.resblocks[0]
    shape = TowerShape(2, left.attn.embed_dim, left.attn.num_heads, left.mlp.c_fc.out_features)
    assert 1 - shape.parameters / whole["image"].parameters == pytest.approx(sparsity, abs=0.02)
    assert type(pruned) is type(model)
    saved = {"model_cfg": new_config, "preprocess_cfg": teacher.config["preprocess_cfg"]}
    if "hf_tokenizer_name" in new_config["text_cfg"]:
        save_open_clip(pruned, tmp_path, config=saved, tokenizer=teacher.tokenizer)
        loaded, _, _ = open_clip.create_model_and_transforms(f"local-dir:{tmp_path}")
        assert torch.equal(loaded.eval().encode_image(PIXELS), pruned.encode_image(PIXELS))


def test_training_reaches_the_sparsity_that_was_asked_for_and_keeps_what_is_useful():
    torch.manual_seed(0)
    masks = TowerMasks(TowerShape(layers=2, width=32, heads=2, units=64)).train()
    alphas = [mask.log_alpha for mask in (masks.hidden, masks.heads, masks.units)]
    optimizer = torch.optim.Adam([*alphas, masks.lambdas], lr=0.1)
    useful = torch.arange(64) % 2 == 0  # units of the first layer
    for step in range(1500):
        _, _, units = masks(torch.Generator().manual_seed(step))
        loss = masks.price(0.5 * min(1.0, step / 500)) - 0.2 * units[0][useful].mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert masks.expected_sparsity().item() == pytest.approx(0.5, abs=0.03)
    units = masks.units.probability_open()[0]
    assert units[useful].min() > units[~useful].max()


def test_uniform_shapes():
    masks = TowerMasks(TowerShape(layers=3, width=64, heads=4, units=128))
    assert uniform_shape(masks, 0.0) == masks.shape
    with torch.no_grad():
        masks.hidden.log_alpha[:32] = -10
    shape = uniform_shape(masks, 0.65)
    assert (shape.width, shape.heads, shape.head_width) == (32, 2, 16)
    assert shape.parameters / masks.shape.parameters == pytest.approx(0.35, abs=0.01)
    with pytest.raises(
        ValueError, match=r"sparsity 0\.999 leaves .* parameters a layer, and no tower with 1 to 4 heads"
    ):
        uniform_shape(masks, 0.999)


def test_the_largest_are_kept():
    masks = TowerMasks(TowerShape(layers=1, width=4, heads=2, units=3))
    with torch.no_grad():
        masks.hidden.log_alpha.copy_(torch.tensor([-1.0, 3, 2, 2]))
        masks.units.log_alpha.copy_(torch.tensor([[0.1, 9, -9]]))
    kept = keep(masks, TowerShape(layers=1, width=2, heads=1, units=2))
    assert kept.hidden.tolist() == [1, 2]
    assert kept.heads.tolist() == [[0]]
    assert kept.units.tolist() == [[0, 1]]
    hidden, _, units = hardened(masks, kept)
    assert hidden.tolist() == [0, 1, pytest.approx(masks.hidden.certain()[2].item()), 0]
    assert units[0, 2] == 0


def test_a_tower_without_masks_is_refused(teacher):
    config = copy.deepcopy(teacher.config["model_cfg"])
    config["vision_cfg"] = {"layers": [1, 1, 1, 1], "width": 16, "head_width": 16, "image_size": 32}
    model = open_clip.CLIP(**config)
    with pytest.raises(ValueError, match=r"the image tower \(ModifiedResNet\) has no masks to learn"):
        MaskedDualEncoder(model)
    MaskedDualEncoder(model, towers=("text",))
