"""The region features of the shipped student: a small classifier of single icons, trained on the seen families only.

Like the detector of UNITER-like models, it is trained on more labels than the task needs: every icon name that two seen
families share, and the colour. Then it is frozen, and its pooled feature stands for a box.
"""

import functools
import json
import re
from pathlib import Path
from typing import Any

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
    """Return name → (seen family, glyph) pairs, of iconworld's concepts and every name that two seen families share.

    A family's filled and outlined drawings of a thing both count as that thing.
    """
    drawings: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for family in SEEN_FAMILIES:
        for glyph in sorted(font_file(family)[1]):
            if not re.search("-(bold|thin|light|duotone)$", glyph):
                drawings.setdefault((family, _plain_name(glyph)), []).append((family, glyph))
    names: dict[str, list[tuple[str, str]]] = {}
    used: set[tuple[str, str]] = set()
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
    """Return every icon of `icon_names` at every size, cropped to its ink and resized as the student's boxes are.

    Returns:
        (n, 32, 32) float ink in 0..1, and (n,) labels, which are indices into `icon_names`.
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

    Colouring and resizing are linear and commute, so ink is resized once and coloured here.

    Args:
        length: number of samples.
        icons: ink and labels, as `icon_crops` returns them; None: those.
    """

    def __init__(self, length: int, seed: int, icons: tuple[Tensor, Tensor] | None = None) -> None:
        self.length, self.seed = length, seed
        self.ink, self.labels = icons or icon_crops()

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, position: int) -> int:
        return position

    def collate(self, positions: list[int]) -> dict[str, Tensor]:
        """Return pixel_values (n, 3, 32, 32), and the labels name and colour (n,)."""
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
    """A timm backbone with one head for names and colours. `forward` returns {"loss", "name", "colour"}."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone: Any = timm.create_model(ARCHITECTURE, num_classes=len(icon_names()) + len(COLOURS))

    def forward(self, pixel_values: Tensor, name: Tensor, colour: Tensor) -> dict[str, Tensor]:
        names, colours = self.backbone(pixel_values).split([len(icon_names()), len(COLOURS)], 1)
        loss = F.cross_entropy(names, name) + 0.3 * F.cross_entropy(colours, colour)
        return {"loss": loss, "name": names, "colour": colours}


@torch.no_grad()
def accuracy(model: IconClassifier, family: str, *, samples: int = 2000, seed: int = 1) -> dict[str, float]:
    """Return the percentages of a family's crops whose name and whose colour the classifier gets right."""
    names = list(icon_names())
    concepts = [c for c in GLYPHS if draws(family, c)]
    inks = []
    for concept in concepts:
        mask = Image.fromarray(glyph_mask(family, GLYPHS[concept][family], SIZES[1], max(SIZES) + 2))
        ink = torch.from_numpy(np.array(mask.crop(mask.getbbox()))).float()[None, None] / 255
        inks.append(F.interpolate(ink, (CROP_SIZE, CROP_SIZE), mode="bilinear", antialias=True)[0, 0])
    labels = torch.tensor([names.index(concept) for concept in concepts])
    crops = IconCrops(samples, seed, (torch.stack(inks), labels))
    batch = crops.collate(list(range(samples)))
    out = model.eval()(**batch)
    return {k: 100 * (out[k].argmax(1) == batch[k]).float().mean().item() for k in ("name", "colour")}


def save_regions(model: IconClassifier, folder: Path) -> None:
    """Write a folder in timm's local-dir format: config.json and model.safetensors."""
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
    save_for_hf(backbone, str(folder), safe_serialization=True)
    config = json.loads((folder / "config.json").read_text())
    config["pretrained_cfg"] |= data
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
