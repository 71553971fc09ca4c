"""The files for real servers, as far as they can be judged without starting anything."""

import re
import subprocess
import sys
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from tests.support.compose import FILE, Unset, read_services
from tests.support.paths import ROOT
from workers.queues import QUEUES

DOCKERFILE = (ROOT / "Dockerfile").read_text()
EXAMPLE = (ROOT / ".env.example").read_text()

SECRETS = tuple(re.findall(r"^(\w+)=", EXAMPLE, re.MULTILINE))
"""What ``.env.example`` asks for."""

SERVICES: dict[str, Any] = read_services(dict.fromkeys(SECRETS, "secret"))

LASTING = {name: each for name, each in SERVICES.items() if "profiles" not in each}
"""Those that ``docker compose up`` starts."""


def test_the_file_is_what_the_compose_schema_says() -> None:
    command = (sys.executable, "-m", "check_jsonschema", "--builtin-schema")
    judged = subprocess.run(
        [*command, "vendor.compose-spec", str(FILE)], capture_output=True, text=True, check=False
    )
    assert judged.returncode == 0, judged.stdout


def test_it_is_the_whole_system() -> None:
    stages = {f"worker-{queue.replace('_', '-')}" for queue in QUEUES}
    assert set(LASTING) == {"broker", "database", "beat", "flower", "web"} | stages


def test_each_queue_is_served_by_one_service_and_each_can_grow() -> None:
    served = {
        name: each["command"][each["command"].index("--queues") + 1]
        for name, each in LASTING.items()
        if name.startswith("worker-")
    }
    assert sorted(served.values()) == sorted(QUEUES)
    for name in served:
        # A second container of a service can have neither the name nor the port of the first.
        assert not {"container_name", "ports"} & set(SERVICES[name])


@pytest.mark.parametrize("name", LASTING)
def test_each_service_is_watched_restarted_and_limited(name: str) -> None:
    service = LASTING[name]
    assert service["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")
    assert service["restart"] == "unless-stopped"
    assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory"}
    assert service["security_opt"] == ["no-new-privileges:true"]


def test_each_port_is_this_machine_s() -> None:
    ports = list(chain.from_iterable(each.get("ports", ()) for each in SERVICES.values()))
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


@pytest.mark.parametrize("missing", SECRETS)
def test_no_secret_has_a_default(missing: str) -> None:
    given = {name: "secret" for name in SECRETS if name != missing}
    with pytest.raises(Unset, match=missing):
        read_services(given)


def test_the_example_names_what_is_needed_and_gives_nothing_away() -> None:
    needed = set(re.findall(r"\$\{(\w+):\?", FILE.read_text()))
    assert set(SECRETS) == needed
    assert re.findall(r"^\w+=(.+)$", EXAMPLE, re.MULTILINE) == []


def test_what_is_kept_is_kept_in_volumes() -> None:
    assert "--appendonly" in SERVICES["broker"]["command"]
    for name in ("broker", "database", "beat", "flower", "web"):
        assert SERVICES[name]["volumes"], name
    # The live page shows the pages of the runs that were played here.
    assert SERVICES["web"]["volumes"] == SERVICES["simulate"]["volumes"]


def test_images_are_pinned() -> None:
    images = [each["image"] for each in SERVICES.values()]
    images += re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    for image in images:
        assert re.search(r":\d+(\.\d+)*", image), image
    assert "--constraint requirements.lock" in DOCKERFILE


def test_the_image_runs_as_somebody_who_may_do_little() -> None:
    *_, user = re.findall(r"^USER (\S+)", DOCKERFILE, re.MULTILINE)
    assert user not in ("root", "0")
    assert re.search(rf"^RUN useradd .*{user}$", DOCKERFILE, re.MULTILINE)


def test_what_the_image_is_made_of_is_there_and_let_in() -> None:
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    let_in = set((ROOT / ".dockerignore").read_text().splitlines())
    for name in chain.from_iterable(line.split() for line in copied):
        assert Path(ROOT, name).exists(), name
        assert f"!{name}" in let_in, name
