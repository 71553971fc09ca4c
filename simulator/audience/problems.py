"""Problems of audience files: why rows are left out, what is repaired, which numbers are unusable.

Each problem is counted, and is a figure of the run.
"""

from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType

from tracker.status import DescribedSlug


class RejectCause(DescribedSlug):
    """A cause for which a row is left out."""

    CELL_COUNT = "cell_count", "more cells than the header has"
    UNBALANCED_QUOTE = "unbalanced_quote", "a quote that is never closed, or closed too early"
    ENCODING = "encoding", "bytes that the file's encoding doesn't have"
    TOO_LONG = "too_long", "a cell or a row that is too long"
    MISSING_ID = "missing_id", "no `customer_id`, or one that is too long"
    DUPLICATE_ID = "duplicate_id", "a `customer_id` that an earlier row has"
    WRONG_VALUE = "wrong_value", "a value that the column can't have"


class Repair(DescribedSlug):
    """A repair of a row, or a row that is skipped without a loss."""

    INVISIBLE_CHARACTERS = (
        "invisible_characters",
        "rows from which zero-width and control characters are removed",
    )
    REPEATED_HEADER = "repeated_header", "rows that repeat the header; they are skipped"
    MISSING_CELLS = "missing_cells", "rows whose last cells are missing; they count as empty"
    MOBILE = "mobile", "mobile numbers that a spreadsheet changed, with one reading left"


class MobileProblem(DescribedSlug):
    """A cause for which a mobile number can't be used. The customer is imported without it."""

    SPREADSHEET = "spreadsheet", "a spreadsheet has rounded it, as in 9.99E9"
    DATE = "date", "a date"
    TWO_NUMBERS = "two_numbers", "two numbers in one cell"
    TEXT = "text", "text beside the number, or instead of it"
    NO_COUNTRY = "no_country", "a national number, and no region to read it in"
    NOT_MOBILE = "not_mobile", "a fixed line, a premium number or another that gets no SMS"
    INVALID = "invalid", "not a valid number of its country, or more than one reading"


class Duplicate(DescribedSlug):
    """An address that an earlier row has, too. The customer is imported."""

    EMAIL = "same_email", "an email address that an earlier row has"
    MOBILE = "same_mobile", "a mobile number that an earlier row has"


Problem = RejectCause | Repair | MobileProblem | Duplicate


class ProblemCounts:
    """Counts of the rows of an audience file and of their problems, with the first line of each.

    Attributes:
        rows: rows that were read, customers and rejected ones together.
        first_lines: the first line with each problem.
        first_messages: why the first row was left out, by cause.
    """

    def __init__(self) -> None:
        self.rows = 0
        self.by_problem: Counter[Problem] = Counter()
        self.first_lines: dict[Problem, int] = {}
        self.first_messages: dict[RejectCause, str] = {}

    def add(self, problem: Problem, line: int) -> None:
        """Count a problem in a line."""
        self.by_problem[problem] += 1
        self.first_lines.setdefault(problem, line)

    def add_reject(self, cause: RejectCause, line: int, message: str) -> None:
        """Count a row that is left out, and keep why if it is the first with its cause."""
        self.add(cause, line)
        self.first_messages.setdefault(cause, message)

    @property
    def rejects(self) -> int:
        """Rows that are left out."""
        return sum(self.by_problem[cause] for cause in RejectCause)

    @property
    def customers(self) -> int:
        """Rows that are imported."""
        return self.rows - self.rejects


PROBLEMS_BY_SLUG: Mapping[str, Problem] = MappingProxyType(
    {
        str(problem): problem
        for group in (RejectCause, Repair, MobileProblem, Duplicate)
        for problem in group
    }
)
