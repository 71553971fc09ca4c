"""`docker-compose.yml`, `Dockerfile` and `.env.example`, checked without starting anything."""

import re
import subprocess
import sys
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

import celeryconfig
from tests.support.compose import FILE, MissingVariable, read_services
from tests.support.paths import ROOT
from workers.queues import QUEUES

DOCKERFILE = (ROOT / "Dockerfile").read_text()
EXAMPLE = (ROOT / ".env.example").read_text()

SECRETS = tuple(re.findall(r"^(\w+)=", EXAMPLE, re.MULTILINE))
"""The variables that `.env.example` lists."""

SERVICES: dict[str, Any] = read_services(dict.fromkeys(SECRETS, "secret"))

STARTED_SERVICES = {
    name: service for name, service in SERVICES.items() if "profiles" not in service
}
"""The services that `docker compose up` starts."""


def test_compose_file_conforms_to_the_schema() -> None:
    command = (sys.executable, "-m", "check_jsonschema", "--builtin-schema")
    checked = subprocess.run(
        [*command, "vendor.compose-spec", str(FILE)], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout


def test_services_are_the_whole_system() -> None:
    stages = {f"worker-{queue.replace('_', '-')}" for queue in QUEUES}
    assert set(STARTED_SERVICES) == {"broker", "database", "beat", "flower", "web"} | stages


def test_each_queue_is_served_by_one_service_and_each_can_grow() -> None:
    served = {
        name: service["command"][service["command"].index("--queues") + 1]
        for name, service in STARTED_SERVICES.items()
        if name.startswith("worker-")
    }
    assert sorted(served.values()) == sorted(QUEUES)
    for name in served:
        # A second container of a service can have neither the name nor the port of the first.
        assert not {"container_name", "ports"} & set(SERVICES[name])


@pytest.mark.parametrize("queue", QUEUES)
def test_a_worker_that_is_stopped_may_finish_its_steps(queue: str) -> None:
    service = SERVICES[f"worker-{queue.replace('_', '-')}"]
    assert int(service["stop_grace_period"].removesuffix("s")) > celeryconfig.task_time_limit


@pytest.mark.parametrize("name", STARTED_SERVICES)
def test_each_service_has_a_health_check_restarts_and_limits(name: str) -> None:
    service = STARTED_SERVICES[name]
    assert service["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")
    assert service["restart"] == "unless-stopped"
    assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory"}
    assert service["security_opt"] == ["no-new-privileges:true"]


def test_ports_are_bound_to_localhost() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


@pytest.mark.parametrize("missing", SECRETS)
def test_no_secret_has_a_default(missing: str) -> None:
    variables = {name: "secret" for name in SECRETS if name != missing}
    with pytest.raises(MissingVariable, match=missing):
        read_services(variables)


def test_example_lists_the_required_variables_without_values() -> None:
    required = set(re.findall(r"\$\{(\w+):\?", FILE.read_text()))
    assert set(SECRETS) == required
    assert re.findall(r"^\w+=(.+)$", EXAMPLE, re.MULTILINE) == []


def test_state_is_kept_in_volumes() -> None:
    assert "--appendonly" in SERVICES["broker"]["command"]
    for name in ("broker", "database", "beat", "flower", "web"):
        assert SERVICES[name]["volumes"], name
    # The live page serves the result pages of these runs.
    assert SERVICES["web"]["volumes"] == SERVICES["simulate"]["volumes"]


def test_images_are_pinned() -> None:
    images = [service["image"] for service in SERVICES.values()]
    images += re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    for image in images:
        assert re.search(r":\d+(\.\d+)*", image), image
    assert "--constraint requirements.lock" in DOCKERFILE


def test_image_runs_as_an_unprivileged_user() -> None:
    *_, user = re.findall(r"^USER (\S+)", DOCKERFILE, re.MULTILINE)
    assert user not in ("root", "0")
    assert re.search(rf"^RUN useradd .*{user}$", DOCKERFILE, re.MULTILINE)


def test_copied_files_exist_and_are_in_the_build_context() -> None:
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    included = set((ROOT / ".dockerignore").read_text().splitlines())
    for name in chain.from_iterable(line.split() for line in copied):
        assert Path(ROOT, name).exists(), name
        assert f"!{name}" in included, name
