"""``python -m simulator`` is ``sendtrace``."""

from simulator.cli import main

main()
