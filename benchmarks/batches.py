"""Batches of message numbers."""


def split_range(numbers: range, size: int) -> list[range]:
    """Split numbers into ranges of a size; the last one may be shorter."""
    return [numbers[first : first + size] for first in range(0, len(numbers), size)]
