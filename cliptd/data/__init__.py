"""Streaming readers and low-shot splits."""

from cliptd.data.jsonl import JsonLines
from cliptd.data.splits import Split, holdout_split, low_shot_split

__all__ = ["JsonLines", "Split", "holdout_split", "low_shot_split"]
