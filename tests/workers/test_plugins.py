"""Loading plugins: what is found, and what an error says of a plugin that can't be loaded."""

import os
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint

import pytest

from tracker.errors import UsageError
from tracker.status import Channel
from workers.gateways.base import load_gateway_kind
from workers.plugins import (
    PluginGroup,
    find_plugins,
    import_own_plugins,
    import_plugin,
    is_third_party,
    list_plugin_names,
    load_plugin,
)
from workers.services.base import SqlServices, load_services_factory
from workers.services.handlers import find_handler

PARAMETERS = ("settings", "database")


def test_plugins_of_all_distributions_are_listed(install: Callable[..., None]) -> None:
    assert list_plugin_names(PluginGroup.SERVICES) == ["simulated", "sql"]
    install("def make(settings, database): return 3", PluginGroup.SERVICES, acme="extra:make")
    assert list_plugin_names(PluginGroup.SERVICES) == ["acme", "simulated", "sql"]
    third_party = [
        plugin.name for plugin in find_plugins(PluginGroup.SERVICES) if is_third_party(plugin)
    ]
    assert third_party == ["acme"]
    assert load_plugin(PluginGroup.SERVICES, "acme", parameters=PARAMETERS)("", None) == 3
    assert load_plugin(PluginGroup.SERVICES, "sql", parameters=PARAMETERS) is SqlServices


@pytest.mark.parametrize(
    ("source", "reference", "problem"),
    [
        ("", "absent:make", "import failed: ModuleNotFoundError: No module named 'absent'"),
        ("make = 3", "extra:maek", "import failed: extra has no 'maek'; did you mean make?"),
        ("def make(:", "extra:make", "import failed: SyntaxError"),
        ("raise ValueError('no file')", "extra:make", "import failed: ValueError: no file"),
        ("import sys; sys.exit(4)", "extra:make", "import failed: the module calls sys.exit(4)"),
        ("make = 3", "extra:make", "got int; expected a function of (settings, database)"),
        (
            "def make(settings): pass",
            "extra:make",
            "got signature (settings); expected (settings, database)",
        ),
    ],
)
def test_an_error_names_the_plugin_its_distribution_and_the_problem(
    install: Callable[..., None], source: str, reference: str, problem: str
) -> None:
    install(source, PluginGroup.GATEWAYS, acme=reference)
    with pytest.raises(UsageError) as caught:
        load_plugin(PluginGroup.GATEWAYS, "acme", parameters=PARAMETERS)
    assert f"gateway acme ({reference}, from extra 1.0): {problem}" in str(caught.value)


def test_an_unknown_name_is_refused_with_a_suggestion() -> None:
    with pytest.raises(UsageError, match=r"sendtrace\.gateways: unknown gateway 'smpt'; did you"):
        load_gateway_kind("smpt")
    with pytest.raises(UsageError, match="unknown services 'soap'; expected one of simulated, sql"):
        load_services_factory("soap")
    assert find_handler("fax") is None


def test_a_name_that_two_distributions_use_is_refused(install: Callable[..., None]) -> None:
    install("def make(settings, database): ...", PluginGroup.GATEWAYS, smtp="extra:make")
    with pytest.raises(UsageError) as caught:
        load_gateway_kind("smtp")
    assert "gateway smtp (extra:make, from extra 1.0)" in str(caught.value)
    assert "gateway smtp (workers.gateways.smtp:SmtpGateway, from sendtrace" in str(caught.value)


def test_a_reference_without_a_distribution_is_named_by_its_source() -> None:
    entry = EntryPoint("x", "absent:x", PluginGroup.CHECKS)
    with pytest.raises(UsageError, match="--with absent:x: import failed: ModuleNotFoundError"):
        import_plugin(entry, source="--with absent:x")


@pytest.mark.parametrize(
    ("attributes", "reaches_people", "channels"),
    [
        pytest.param("", True, frozenset(Channel), id="nothing declared"),
        pytest.param("network = False", False, frozenset(Channel), id="reaches no recipient"),
        pytest.param("channels = ('sms',)", True, frozenset({Channel.SMS}), id="one channel"),
    ],
)
def test_a_gateway_reaches_people_over_all_channels_unless_it_declares_otherwise(
    install: Callable[..., None],
    attributes: str,
    reaches_people: bool,
    channels: frozenset[Channel],
) -> None:
    source = f"class Acme:\n  def __init__(self, settings, database): ...\n  {attributes}\n"
    install(source, PluginGroup.GATEWAYS, acme="extra:Acme")
    kind = load_gateway_kind("acme")
    assert (kind.reaches_people, kind.channels) == (reaches_people, channels)


@pytest.mark.parametrize("channels", ["('fax',)", "3"])
def test_channels_that_do_not_exist_are_refused(
    install: Callable[..., None], channels: str
) -> None:
    source = (
        f"class Acme:\n  def __init__(self, settings, database): ...\n  channels = {channels}\n"
    )
    install(source, PluginGroup.GATEWAYS, acme="extra:Acme")
    with pytest.raises(
        UsageError, match=r"gateway acme: channels: got .*; expected a set of email"
    ):
        load_gateway_kind("acme")


START_WORKER = """
import sys
from workers.app import app
from celery.signals import celeryd_init
celeryd_init.send(sender="one@here", instance=None, conf=app.conf, options={})
print(*sys.modules)
"""


def test_a_worker_loads_what_its_processes_need_before_it_forks_them() -> None:
    started = subprocess.run(
        [sys.executable, "-c", START_WORKER],
        env=os.environ | {"SENDTRACE_BROKER_URL": "redis://127.0.0.1:1/0"},
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(started.stdout.split())
    assert {"simulator.world.gateway", "simulator.world.services"} <= loaded
    assert {"workers.gateways.smtp", "workers.gateways.http"} <= loaded
    assert "httpx2" not in loaded, "only runs with the gateway http pay for its HTTP client"


def test_plugins_of_other_distributions_are_not_imported_in_advance(
    install: Callable[..., None],
) -> None:
    install("raise ValueError", PluginGroup.GATEWAYS, acme="extra:make")
    import_own_plugins()
    assert "extra" not in sys.modules
