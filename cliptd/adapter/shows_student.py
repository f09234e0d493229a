"""A module around a student that answers for the student's attributes."""

from typing import Any

from torch import nn


class ShowsStudent(nn.Module):
    """A module that holds a student: public attributes that are not its own are the student's.

    Subclasses set `self.student` in `__init__`.
    """

    student: nn.Module

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name.startswith("_") or "student" not in self.__dict__.get("_modules", {}):
                raise
            return getattr(self.student, name)
