"""``python -m simulator`` is ``sendtrace``."""

import sys

try:
    from simulator.cli.main import main

    main()
except KeyboardInterrupt:  # before the command itself could take it
    sys.exit(130)
