"""cliptd: distil CLIP teachers into vision-language models and into small CLIP-like models.

Names are imported when they are first used, so `import cliptd` costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cliptd import embedding as embedding
    from cliptd import targeted as targeted
    from cliptd.sources import LiveSource as LiveSource
    from cliptd.store import TeacherStore as TeacherStore
    from cliptd.store_writer import StoreWriter as StoreWriter
    from cliptd.students import StudentStates as StudentStates
    from cliptd.targeted.collator import DistillationCollator as DistillationCollator
    from cliptd.targeted.config import TargetedDistillationConfig as TargetedDistillationConfig
    from cliptd.teacher_input import TeacherInput as TeacherInput
    from cliptd.teachers import Teacher as Teacher
    from cliptd.teachers import TeacherEnsemble as TeacherEnsemble
    from cliptd.teachers import load_teacher as load_teacher
    from cliptd.wrap import DistilledModel as DistilledModel
    from cliptd.wrap import wrap as wrap

__version__ = "0.1.0"

_HOMES = {
    "DistillationCollator": "cliptd.targeted.collator",
    "DistilledModel": "cliptd.wrap",
    "LiveSource": "cliptd.sources",
    "StoreWriter": "cliptd.store_writer",
    "StudentStates": "cliptd.students",
    "TargetedDistillationConfig": "cliptd.targeted.config",
    "Teacher": "cliptd.teachers",
    "TeacherEnsemble": "cliptd.teachers",
    "TeacherInput": "cliptd.teacher_input",
    "TeacherStore": "cliptd.store",
    "load_teacher": "cliptd.teachers",
    "wrap": "cliptd.wrap",
}
_ROOMS = ("embedding", "targeted")

__all__ = [*_HOMES, *_ROOMS]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(importlib.import_module(_HOMES[name]), name)
        globals()[name] = value
        return value
    if name in _ROOMS:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module 'cliptd' has no attribute {name!r}; it has {', '.join(sorted(__all__))}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
