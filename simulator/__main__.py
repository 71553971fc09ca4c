"""Run `sendtrace` as `python -m simulator`."""

import sys

try:
    from simulator.cli.main import main

    main()
except KeyboardInterrupt:  # during imports, before the command handles it
    sys.exit(130)
