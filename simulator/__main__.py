"""``python -m simulator`` is ``sendtrace``."""

import sys

try:
    from simulator.cli import main

    main()
except KeyboardInterrupt:  # before the command itself could take it
    sys.exit(130)
