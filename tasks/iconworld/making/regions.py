"""The region student's eyes: a small classifier of single icons, trained on the seen families only.

As the detector of UNITER-like models it is trained on more labels than the task needs (every icon name that two
seen families share, and the colour), then frozen, and its pooled feature stands for a box.
"""

import functools
import json
import re
from pathlib import Path

import numpy as np
import timm
import torch
import torch.nn.functional as F
from PIL import Image
from timm.models import save_for_hf
from torch import Tensor, nn

from tasks.iconworld.glyphs import GLYPHS, SEEN_FAMILIES, SIZES, draws, font_file, glyph_mask
from tasks.iconworld.scenes import COLOURS

ARCHITECTURE = "test_resnet"
CROP_SIZE = 32
MEAN = STD = (0.5, 0.5, 0.5)


def _plain_name(glyph: str) -> str:
    return re.sub(r"^bxs?-|-(fill|line|outline)$", "", glyph)


@functools.cache
def icon_names() -> dict[str, list[tuple[str, str]]]:
    """name -> its (seen family, glyph) pairs: iconworld's concepts and every other name that two seen families share.

    A family's filled and outlined drawings of a thing both count: eyes know that the two look alike.
    """
    drawings: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for family in SEEN_FAMILIES:
        for glyph in sorted(font_file(family)[1]):
            if not re.search("-(bold|thin|light|duotone)$", glyph):
                drawings.setdefault((family, _plain_name(glyph)), []).append((family, glyph))
    names, used = {}, set()
    for concept, glyphs in GLYPHS.items():
        keys = [(family, _plain_name(glyph)) for family, glyph in glyphs.items() if family in SEEN_FAMILIES]
        names[concept] = [drawing for key in keys for drawing in drawings[key]]
        used.update(keys)
    families_of: dict[str, list[tuple[str, str]]] = {}
    for key in drawings:
        if key not in used:
            families_of.setdefault(key[1], []).append(key)
    for name, keys in families_of.items():
        if len(keys) >= 2 and name not in names:
            names[name] = [drawing for key in keys for drawing in drawings[key]]
    return names


def icon_crops() -> tuple[Tensor, Tensor]:
    """Every icon of `icon_names` at every size, cropped to its ink and resized as the student's boxes are.

    Returns `(n, 32, 32)` float ink in 0..1 and `(n,)` labels, indices into `icon_names`.
    """
    crops, labels = [], []
    for label, glyphs in enumerate(icon_names().values()):
        for family, glyph in glyphs:
            for size in SIZES:
                mask = Image.fromarray(glyph_mask(family, glyph, size, max(SIZES) + 2))
                ink = torch.from_numpy(np.array(mask.crop(mask.getbbox()))).float()[None, None] / 255
                crops.append(
                    F.interpolate(ink, (CROP_SIZE, CROP_SIZE), mode="bilinear", antialias=True)[0, 0]
                )
                labels.append(label)
    return torch.stack(crops), torch.tensor(labels)


class IconCrops:
    """Endless crops in random colours on pale grounds, shifted by up to two pixels.

    Drawing commutes with resizing, both being linear, so ink is resized once and coloured here.
    """

    def __init__(self, length: int, seed: int):
        self.length, self.seed = length, seed
        self.ink, self.labels = icon_crops()

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, position: int) -> int:
        return position

    def collate(self, positions: list[int]) -> dict[str, Tensor]:
        g = torch.Generator().manual_seed(self.seed * 1_000_003 + positions[0])
        n = len(positions)
        rows = torch.randint(len(self.ink), (n,), generator=g)
        colour = torch.randint(len(COLOURS), (n,), generator=g)
        rgb = torch.tensor(list(COLOURS.values())).float()[colour] / 255
        ground = (
            torch.randint(215, 256, (n, 1), generator=g) + torch.randint(-12, 13, (n, 3), generator=g)
        ) / 255
        dx, dy = torch.randint(-2, 3, (2, n), generator=g)
        ink = F.pad(self.ink[rows], (2, 2, 2, 2))
        at = torch.arange(CROP_SIZE)
        y, x = (at + 2 + dy[:, None])[:, :, None], (at + 2 + dx[:, None])[:, None, :]
        ink = ink[torch.arange(n)[:, None, None], y, x][:, None]
        image = ground.clamp(max=1)[..., None, None] * (1 - ink) + rgb[..., None, None] * ink
        return {"pixel_values": (image - 0.5) / 0.5, "name": self.labels[rows], "colour": colour}


class IconClassifier(nn.Module):
    """A timm backbone with one head for names and colours; `forward` returns `{"loss", "name", "colour"}`."""

    def __init__(self):
        super().__init__()
        self.backbone = timm.create_model(ARCHITECTURE, num_classes=len(icon_names()) + len(COLOURS))

    def forward(self, pixel_values: Tensor, name: Tensor, colour: Tensor) -> dict[str, Tensor]:
        names, colours = self.backbone(pixel_values).split([len(icon_names()), len(COLOURS)], 1)
        loss = F.cross_entropy(names, name) + 0.3 * F.cross_entropy(colours, colour)
        return {"loss": loss, "name": names, "colour": colours}


@torch.no_grad()
def accuracy(model: IconClassifier, family: str, *, samples: int = 2000, seed: int = 1) -> dict[str, float]:
    """Percent of a family's concept crops whose name, and whose colour, the classifier gets right."""
    names = list(icon_names())
    concepts = [c for c in GLYPHS if draws(family, c)]
    inks = []
    for concept in concepts:
        mask = Image.fromarray(glyph_mask(family, GLYPHS[concept][family], SIZES[1], max(SIZES) + 2))
        ink = torch.from_numpy(np.array(mask.crop(mask.getbbox()))).float()[None, None] / 255
        inks.append(F.interpolate(ink, (CROP_SIZE, CROP_SIZE), mode="bilinear", antialias=True)[0, 0])
    crops = IconCrops.__new__(IconCrops)
    crops.length, crops.seed = samples, seed
    crops.ink, crops.labels = torch.stack(inks), torch.tensor([names.index(c) for c in concepts])
    batch = crops.collate(list(range(samples)))
    out = model.eval()(**batch)
    return {k: 100 * (out[k].argmax(1) == batch[k]).float().mean().item() for k in ("name", "colour")}


def save_regions(model: IconClassifier, folder: Path) -> None:
    """Write timm's local-dir format: config.json and model.safetensors."""
    backbone = model.backbone
    data = {
        "input_size": [3, CROP_SIZE, CROP_SIZE],
        "mean": MEAN,
        "std": STD,
        "interpolation": "bilinear",
        "crop_pct": 1.0,
    }
    backbone.pretrained_cfg = (
        backbone.pretrained_cfg | data if isinstance(backbone.pretrained_cfg, dict) else data
    )
    save_for_hf(backbone, folder, safe_serialization=True)
    config = json.loads((folder / "config.json").read_text())
    config["pretrained_cfg"] |= data
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
