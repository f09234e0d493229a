"""The numbers that a teacher computes with; importing them costs no torch."""

from typing import Literal

Precision = Literal["fp32", "fp16", "bf16"]
"""32-bit floats, 16-bit floats, or bfloat16."""
