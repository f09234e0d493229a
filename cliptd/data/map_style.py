"""The type of every data set: a length, and an example for each index."""

from typing import Protocol, TypeVar

Example = TypeVar("Example", covariant=True)


class MapStyle(Protocol[Example]):
    """A data set that is read by index, such as a list or a `torch.utils.data.Dataset` with a length."""

    def __len__(self) -> int:
        """Return the number of examples."""

    def __getitem__(self, index: int, /) -> Example:
        """Return the example at an index, from 0 to below the length."""
