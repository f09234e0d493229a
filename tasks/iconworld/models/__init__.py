"""The weights that ship with iconworld, each folder with a card.json of how it was made.

`TEACHER` is an open_clip folder, `REGIONS` a timm folder, `STUDENT` a transformers folder.
"""

from pathlib import Path

TEACHER = Path(__file__).parent / "teacher"
REGIONS = Path(__file__).parent / "regions"
STUDENT = Path(__file__).parent / "student"
