"""The environment variables by which other projects configure Celery and Flower."""

import os

FOREIGN_PREFIXES = ("CELERY_", "FLOWER_", "KOMBU_")
"""Beginnings of the variables by which other projects configure Celery, kombu and Flower."""

FOREIGN_VARIABLES = frozenset(
    {
        "AUTOSCALE_KEEPALIVE",
        "C_BENCH",
        "C_BENCH_EVERY",
        "C_IMPDEBUG",
        "C_REMDEBUG",
        "C_STRICT_APP",
        "C_WARN_APP",
        "C_WNOCONF",
        "DISABLE_TRACEBACKS",
        "EVENTLET_NOBLOCK",
        "FORKED_BY_MULTIPROCESSING",
        "MP_LOG",
        "MP_MAIN_FILE",
        "PICKLE_PROTOCOL",
        "REMAP_SIGTERM",
        "TIMER_DEBUG",
        "USE_FAST_LOCALS",
    }
)
"""Variables without such a prefix that Celery, kombu and billiard read."""

FOREIGN_COMMAND_VARIABLES = frozenset(
    {"APP", "BROKER_URL", "CONFIG_MODULE", "LOADER", "RESULT_BACKEND", "SKIP_CHECKS"}
)
"""Variables without such a prefix that only the command `celery` reads."""


def ignore_foreign_settings() -> None:
    """Remove the variables that configure Celery and Flower from this process's environment.

    Celery prefers some of them to the settings of its app: with `CELERY_BROKER_URL` in the shell, a
    run would use another system's broker. Child processes inherit what is left. Celery reads a part
    of the variables when it is imported, so this function is called before that.
    """
    for name in [*os.environ]:
        if name.startswith(FOREIGN_PREFIXES) or name in FOREIGN_VARIABLES:
            del os.environ[name]
