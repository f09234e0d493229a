"""A control that costs at inference: the teacher's image embedding as an extra input of the student."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cliptd.adapter.shows_student import ShowsStudent
from cliptd.adapter.student_states import find_module, output_width

COLUMN = "clip_image_embeds"
"""The batch's column of teacher embeddings of the instances' images, (B, embed_dim)."""


class TeacherInput(ShowsStudent):
    """A student that also reads the teacher's image embedding, as models on CLIP's features do (arXiv 2107.06383).

    A linear map of the embedding is added to the word embedding of the first token (CLS). The map starts from zero, so
    the first forward is the student's own. Unlike a distilled student, it needs the teacher at inference. Public
    attributes that are not its own are the student's.

    Args:
        student: any nn.Module.
        embed_dim: the teacher's width.
        embedding: path of the module to whose output, (rows, tokens, width), the embedding is added. None: the
            student's only module named word_embeddings. All six presets have one.

    Raises:
        ValueError: there is no such module, or it does not tell its width.
    """

    def __init__(self, student: nn.Module, embed_dim: int, *, embedding: str | None = None) -> None:
        super().__init__()
        if embedding is None:
            found = [
                name for name, _ in student.named_modules() if name.rpartition(".")[2] == "word_embeddings"
            ]
            if len(found) != 1:
                raise ValueError(
                    f"{type(student).__name__} has {len(found)} modules named word_embeddings ({found}); name the one "
                    "that embeds its text: TeacherInput(…, embedding=<module path>)"
                )
            embedding = found[0]
        module = find_module(student, embedding, "embedding")
        width = output_width(module)
        if width is None:
            raise ValueError(
                f"the module {embedding!r} ({type(module).__name__}) does not tell its width; name an nn.Embedding"
            )
        self.student = student
        self.project = nn.Linear(embed_dim, width)
        nn.init.zeros_(self.project.weight)
        nn.init.zeros_(self.project.bias)
        self._added: Tensor | None = None
        self._hook = module.register_forward_hook(self._add)

    def forward(self, *args: Any, clip_image_embeds: Tensor, **batch: Any) -> Any:
        """Return the student's own output. clip_image_embeds: (B, embed_dim), normalised here."""
        self._added = self.project(F.normalize(clip_image_embeds.to(self.project.weight.dtype), dim=-1))
        try:
            return self.student(*args, **batch)
        finally:
            self._added = None

    def unwrap(self) -> nn.Module:
        """Return the student object itself, without the input and without a hook."""
        self._hook.remove()
        return self.student

    def _add(self, module: nn.Module, args: tuple, output: Tensor) -> Tensor | None:
        if self._added is None:
            return None
        looks = len(output) // len(self._added)  # rows are candidates, some for each instance
        added = self._added.repeat_interleave(looks, dim=0).to(output.dtype)
        return torch.cat([output[:, :1] + added[:, None], output[:, 1:]], dim=1)
