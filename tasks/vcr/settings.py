"""The settings of fine-tuning on VCR, as scripts parse them from the command line."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

import tyro

from cliptd.training import TrainingConfig
from tasks.settings import FinetuneSettings
from tasks.vcr.split import VcrSplit


@dataclass(kw_only=True)
class FinetuneVcr(FinetuneSettings):
    """What to fine-tune, on what, and how to distil."""

    task: ClassVar[str] = "VCR"

    data: tyro.conf.OmitArgPrefixes[VcrSplit] = field(default_factory=VcrSplit)
    test_sets: tuple[str, ...] = ("val", "singular", "plural")
    """Splits of the data root, and the shortcut-breaking edits "singular" and "plural" of its val.jsonl."""
    leaderboard: bool = False
    """Also write the leaderboard's CSV for test.jsonl."""
    teacher_text: Literal["choice", "question_and_choice"] = "choice"
    """The sentence that the teacher embeds."""
    run_dir: Path = Path("runs/vcr")
    """Everything the run writes; the same command resumes there."""
    training: tyro.conf.OmitArgPrefixes[TrainingConfig] = field(
        default_factory=lambda: TrainingConfig(
            steps=2000, batch_size=32, lr=5e-5, warmup_steps=200, metric="mean"
        )
    )

    @property
    def metrics(self) -> dict[str, str]:
        """Of a student of one subtask its metric alone."""
        names = {"q_to_a": "Q→A", "qa_to_r": "QA→R", "q_to_ar": "Q→AR"}
        tasks = self.data.tasks
        return names if tasks == "both" else {tasks: names[tasks]}

    @property
    def validation_metrics(self) -> tuple[str, ...]:
        return ("mean", "q_to_a", "qa_to_r", "q_to_ar")
