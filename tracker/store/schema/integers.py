"""The range of integer columns. It imports nothing, so that commands start fast."""

MAX_INTEGER = 2**31 - 1
"""Largest value of an `Integer` column, such as a run's id or a message number."""
