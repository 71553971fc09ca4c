"""Figures as people read them."""

from simulator.figures import Unit


def shown(value: float | None, unit: Unit) -> str:
    """A figure with its unit; a dash where there is none."""
    if value is None:
        return "-"
    match unit:
        case Unit.SECONDS:
            return f"{value:.3f} s" if value < MANY_SECONDS else f"{value:,.1f} s"
        case Unit.SHARE:
            return f"{100 * value:.2f} %"
        case Unit.RATE:
            return f"{value:,.0f}/s" if value >= MANY else f"{value:,.1f}/s"
        case Unit.BYTES:
            return f"{value / 1e6:,.0f} MB"
        case Unit.CORES:
            return f"{value:.2f} cores"
        case _:
            # A median of several runs may lie between two of them.
            return f"{value:,.0f}" if value == int(value) else f"{value:,.1f}"


MANY_SECONDS, MANY = 100, 1_000
"""From here on nobody minds the milliseconds, and the tenths."""
