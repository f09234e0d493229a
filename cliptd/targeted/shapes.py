"""Check that the teacher's columns, the student's states and the labels of a batch belong together."""

from torch import Tensor

COLUMNS = (
    "teacher_image_embeds",
    "teacher_text_embeds",
    "teacher_word_embeds",
    "teacher_word_mask",
    "teacher_word_ids",
    "teacher_match",
)
REGION_COLUMNS = ("teacher_region_embeds", "teacher_region_ids")
"""Columns of batches whose task knows regions."""
RIVAL_COLUMN = "teacher_rival_match"
"""The column of batches whose task gives rival texts."""
WHOLE_TEXT_COLUMN = "teacher_whole_text_embeds"
"""The column that the teacher's probability over the batch needs, if sentence targets are of selected words."""


def flat_rows(name: str, state: Tensor, inner: int, width: int, rows: set[int]) -> Tensor:
    """Join the leading dimensions of a student state but for `inner` ones. Refuse other rows or widths."""
    flat = state.flatten(0, -1 - inner) if state.dim() > inner else state
    if flat.dim() != inner + 1 or flat.shape[-1] != width or len(flat) not in rows:
        shape = " or ".join(f"({n}, {'tokens, ' * (inner - 1)}{width})" for n in sorted(rows))
        raise ValueError(
            f"{name} has shape {tuple(state.shape)}; expected {shape}, a row for each instance and candidate "
            "in the order of the teacher's columns"
        )
    return flat


def check_columns(columns: dict[str, Tensor], embed_dim: int) -> None:
    """Refuse missing columns and shapes that do not fit each other."""
    missing = [name for name in COLUMNS if name not in columns]
    if missing:
        raise ValueError(
            f"the batch lacks the teacher's columns {', '.join(missing)}; collate it with "
            "DistillationCollator"
        )
    found = [name for name in REGION_COLUMNS if name in columns]
    if len(found) == 1:
        raise ValueError(
            f"the batch holds {found[0]} alone; expected both of {', '.join(REGION_COLUMNS)}, or none"
        )
    match = columns["teacher_match"]
    if match.dim() != 2:
        raise ValueError(f"teacher_match has shape {tuple(match.shape)}; expected (instances, candidates)")
    lead = tuple(match.shape)
    words = columns["teacher_word_embeds"].shape[2] if columns["teacher_word_embeds"].dim() == 4 else "words"
    expected = {
        "teacher_image_embeds": (lead[0], embed_dim),
        "teacher_text_embeds": (*lead, embed_dim),
        "teacher_word_embeds": (*lead, words, embed_dim),
        "teacher_word_mask": (*lead, words),
        "teacher_word_ids": (*lead, columns["teacher_word_ids"].shape[-1]),
    }
    if "teacher_region_ids" in columns:
        regions = columns["teacher_region_embeds"].shape[1]
        expected["teacher_region_embeds"] = (lead[0], regions, embed_dim)
        expected["teacher_region_ids"] = (lead[0], columns["teacher_region_ids"].shape[-1])
    if RIVAL_COLUMN in columns:
        expected[RIVAL_COLUMN] = (lead[0], columns[RIVAL_COLUMN].shape[-1])
    if WHOLE_TEXT_COLUMN in columns:
        expected[WHOLE_TEXT_COLUMN] = (*lead, embed_dim)
    for name, shape in expected.items():
        if tuple(columns[name].shape) != shape:
            raise ValueError(
                f"{name} has shape {tuple(columns[name].shape)}; expected ({', '.join(map(str, shape))}) "
                f"for a teacher of width {embed_dim} and {lead[0]} instances of {lead[1]} candidates"
            )


def check_labels(labels: Tensor | None, batch: int, candidates: int, what: str) -> Tensor:
    """Return the labels. Refuse missing labels and other shapes; `what` is what needs them."""
    if labels is None:
        raise ValueError(
            f"{what} with {candidates} candidates need labels, the index of the right candidate of each "
            "instance; pass labels (batch,)"
        )
    if labels.shape != (batch,):
        raise ValueError(
            f"labels have shape {tuple(labels.shape)}; expected ({batch},), one for every instance"
        )
    return labels
