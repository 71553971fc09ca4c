"""Run a command of Celery with the shipped app: `python -m workers.celery_command beat …`.

It is `celery -A workers.app beat …`, except that the environment and the current folder don't
matter.
"""

import os
import sys

from workers.celery_environment import FOREIGN_COMMAND_VARIABLES, ignore_foreign_settings


def main() -> None:
    """Run the command of the command line."""
    ignore_foreign_settings()
    for name in FOREIGN_COMMAND_VARIABLES:
        os.environ.pop(name, None)
    from workers.app import app

    sys.exit(app.start(["--no-color", "--quiet", *sys.argv[1:]]))


if __name__ == "__main__":
    main()
