"""Icon glyphs as masks: the fonts that draw a concept, and its pixels.

The fonts live in the PyPI packages `qtawesome` (Material Design Icons, Font Awesome, Phosphor, Remix) and
`iconipy` (Lucide, Boxicons). Only their data files are read: neither package is imported, so no Qt is needed.
"""

import functools
import importlib.util
import json
import re
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

FAMILIES = ("material", "font_awesome", "phosphor", "remix", "lucide", "boxicons")
SEEN_FAMILIES = ("material", "phosphor", "remix", "boxicons")
UNSEEN_FAMILIES = ("font_awesome", "lucide")
"""Families that the student and its region features never see. The teacher saw them."""

PERSON = "person"
GLYPHS: dict[str, dict[str, str]] = json.loads(Path(__file__).with_name("concepts.json").read_text())
"""Concept → family → the glyph's name in that family's font."""
CONCEPTS = tuple(name for name in GLYPHS if name != PERSON)
"""All that is drawn but the person, in alphabetical order."""

_DRAWN_AT = 112
_QTAWESOME_FONTS = {
    "material": "materialdesignicons6-webfont",
    "font_awesome": "fontawesome6-solid-webfont",
    "phosphor": "phosphor",
    "remix": "remixicon",
}


def _package_folder(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(
            f"iconworld draws its images from the icon fonts of the package {package!r}, which is not installed; "
            f"pip install {package}"
        )
    return Path(next(iter(spec.submodule_search_locations)))


def _only(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if not found:
        raise FileNotFoundError(
            f"{folder} has no file {pattern!r}; install the version of the font package that setup.py names"
        )
    return found[-1]


@functools.cache
def font_file(family: str) -> tuple[Path, dict[str, int]]:
    """Return the font of a family and its map from glyph names to code points."""
    if family in _QTAWESOME_FONTS:
        folder, stem = _package_folder("qtawesome") / "fonts", _QTAWESOME_FONTS[family]
        names = json.loads(_only(folder, f"{stem}-charmap-*.json").read_text())
        return _only(folder, f"{stem}-[0-9]*.ttf"), {name: int(code, 16) for name, code in names.items()}
    assets = _package_folder("iconipy") / "assets"
    if family == "lucide":
        info = json.loads((assets / "lucide" / "info.json").read_text())
        codes = {name: int(entry["encodedCode"].lstrip("\\"), 16) for name, entry in info.items()}
        return assets / "lucide" / "lucide.ttf", codes
    if family == "boxicons":
        css = (assets / "boxicons" / "boxicons.css").read_text()
        rule = r'\.(bxs?-[a-z0-9-]+):before\s*\{\s*content:\s*"\\([0-9a-f]+)"'
        codes = {match[1]: int(match[2], 16) for match in re.finditer(rule, css)}
        return assets / "boxicons" / "boxicons.ttf", codes
    raise ValueError(f"unknown icon family {family!r}: choose one of {', '.join(FAMILIES)}")


def draws(family: str, concept: str) -> bool:
    """Return whether a family has a glyph for a concept."""
    return family in GLYPHS[concept]


def glyph_mask(family: str, glyph: str, size: int, window: int) -> np.ndarray:
    """Return a glyph as a centred mask, (window, window) uint8, whose longer side has `size` pixels.

    Raises:
        KeyError: the font has no glyph of that name.
    """
    path, codes = font_file(family)
    if glyph not in codes:
        raise KeyError(
            f"font {path.name} of family {family!r} has no glyph {glyph!r}; see tasks/iconworld/concepts.json"
        )
    # Fonts place and scale their glyphs differently, so draw it large, crop it to its ink and scale that.
    canvas = Image.new("L", (3 * _DRAWN_AT, 3 * _DRAWN_AT), 0)
    ImageDraw.Draw(canvas).text(
        (1.5 * _DRAWN_AT,) * 2, chr(codes[glyph]), font=_font(str(path)), fill=255, anchor="mm"
    )
    box = canvas.getbbox()
    if box is None:
        raise KeyError(f"glyph {glyph!r} of family {family!r} draws nothing")
    drawn = canvas.crop(box)
    scale = size / max(drawn.size)
    drawn = drawn.resize([max(1, round(side * scale)) for side in drawn.size], Image.Resampling.BOX)
    centred = Image.new("L", (window, window), 0)
    centred.paste(drawn, ((window - drawn.width) // 2, (window - drawn.height) // 2))
    return np.asarray(centred)


@functools.cache
def _font(path: str) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, _DRAWN_AT)


SIZES = (22, 24, 26, 28)
WINDOW = 32


@functools.cache
def mask_bank() -> np.ndarray:
    """Return every glyph at every size: (family, concept, size, WINDOW, WINDOW) uint8, zeros where none is drawn.

    The concept axis holds CONCEPTS and then the person.
    """
    bank = np.zeros((len(FAMILIES), len(CONCEPTS) + 1, len(SIZES), WINDOW, WINDOW), np.uint8)
    for f, family in enumerate(FAMILIES):
        for c, concept in enumerate((*CONCEPTS, PERSON)):
            if draws(family, concept):
                for s, size in enumerate(SIZES):
                    bank[f, c, s] = glyph_mask(family, GLYPHS[concept][family], size, WINDOW)
    return bank
