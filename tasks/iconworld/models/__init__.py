"""The weights that ship with iconworld. The card.json of each folder says how it was made.

`TEACHER` is an open_clip folder, `REGIONS` a timm folder, `STUDENT` and `CAPTIONER` transformers folders.
"""

from pathlib import Path

TEACHER = Path(__file__).parent / "teacher"
REGIONS = Path(__file__).parent / "regions"
STUDENT = Path(__file__).parent / "student"
CAPTIONER = Path(__file__).parent / "captioner"
