"""`docker-compose.yml`, `Dockerfile` and `.env.example`, checked without starting anything."""

import os
import re
import subprocess
import sys
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

import celeryconfig
from tests.support.compose import EXAMPLES, FILE, MissingVariable, read_services, render
from tests.support.paths import ROOT
from tracker.settings import load_settings
from workers.gateways.smtp_settings import ENV_PREFIX, SmtpSettings
from workers.queues import QUEUES
from workers.steps import limits

DOCKERFILE = (ROOT / "Dockerfile").read_text()
EXAMPLE = (ROOT / ".env.example").read_text()

SECRETS = tuple(re.findall(r"^(\w+)=", EXAMPLE, re.MULTILINE))
"""The variables that `.env.example` lists."""

OPTIONAL = dict(re.findall(r"^# (\w+)=(.*)$", EXAMPLE, re.MULTILINE))
"""The other variables that `.env.example` lists, with their defaults."""

REQUIRED = dict.fromkeys((*SECRETS, "WEB_DOMAIN", "FLOWER_DOMAIN"), "secret")

OVERRIDES = {"": (), "tls": (EXAMPLES / "tls.yml",), "secrets": (EXAMPLES / "secrets.yml",)}
"""The files that override the compose file, by what they are for."""

SERVICES: dict[str, Any] = read_services(REQUIRED)

FOREIGN_SERVICES = ("broker", "database")
"""The services that run other images than ours."""

OWN_SERVICES = tuple(name for name in SERVICES if name not in FOREIGN_SERVICES)

STARTED_SERVICES = {
    name: service for name, service in SERVICES.items() if "profiles" not in service
}
"""The services that `docker compose up` starts."""


@pytest.mark.parametrize("overrides", OVERRIDES.values(), ids=OVERRIDES)
def test_compose_files_conform_to_the_schema(overrides: tuple[Path, ...], tmp_path: Path) -> None:
    """As they are, and as Docker renders them."""
    rendered = tmp_path / "rendered.yml"
    YAML().dump(render(REQUIRED, *overrides), rendered)
    command = (sys.executable, "-m", "check_jsonschema", "--builtin-schema")
    files = [*map(str, (FILE, *overrides, rendered))]
    checked = subprocess.run(
        [*command, "vendor.compose-spec", *files], capture_output=True, text=True, check=False
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


def test_one_service_builds_the_image_of_all() -> None:
    assert [name for name, service in SERVICES.items() if "build" in service] == ["web"]
    assert len({SERVICES[name]["image"] for name in OWN_SERVICES}) == 1
    assert {SERVICES[name]["pull_policy"] for name in OWN_SERVICES} == {"never"}


def test_images_have_exact_versions_and_others_can_be_chosen() -> None:
    proxy = read_services(REQUIRED, EXAMPLES / "tls.yml")["proxy"]
    python = SERVICES["web"]["build"]["args"]["PYTHON_IMAGE"]
    for image in (*(service["image"] for service in SERVICES.values()), proxy["image"], python):
        exact = (
            r"postgres:\d+\.\d+(-\w+)?" if image.startswith("postgres") else r"\S+:\d+\.\d+\.\d+\S*"
        )
        assert re.fullmatch(exact, image), image
    assert f"ARG PYTHON_IMAGE={python}" in DOCKERFILE
    assert re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE) == ["${PYTHON_IMAGE}"] * 2
    assert "--constraint requirements.lock" in DOCKERFILE
    names = ("SENDTRACE_IMAGE", "PYTHON_IMAGE", "VALKEY_IMAGE", "POSTGRES_IMAGE", "CADDY_IMAGE")
    chosen = read_services(REQUIRED | {name: f"{name}:1" for name in names}, EXAMPLES / "tls.yml")
    images = {service["image"] for service in chosen.values()}
    assert images | {chosen["web"]["build"]["args"]["PYTHON_IMAGE"]} == {f"{n}:1" for n in names}


def test_containers_start_on_two_cores_and_the_limits_can_be_set() -> None:
    def read_cpus(variables: dict[str, str]) -> set[float]:
        services = read_services(REQUIRED | variables, EXAMPLES / "tls.yml").values()
        return {float(service["deploy"]["resources"]["limits"]["cpus"]) for service in services}

    assert max(read_cpus({})) <= 2
    names = [name for name in OPTIONAL if name.endswith("_CPUS")]
    assert read_cpus(dict.fromkeys([*names, "PROXY_CPUS"], "1.5")) == {1.5}


def test_a_step_fails_before_the_kernel_kills_its_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = SERVICES["worker-gateway"]["deploy"]["resources"]["limits"]["memory"]
    limit = int(memory.removesuffix("G")) << 30
    file = tmp_path / "memory.max"
    file.write_text(f"{limit}\n")
    monkeypatch.setattr(limits, "CONTAINER_LIMIT_FILES", (file,))
    assert limits.max_memory_growth() < limit


def test_the_example_lists_all_optional_variables_with_their_defaults() -> None:
    text = FILE.read_text()
    assert set(OPTIONAL) | set(SECRETS) == set(re.findall(r"\$\{(\w+)", text))
    for name, default in re.findall(r"\$\{(\w+):-([^}]+)\}", text):
        assert OPTIONAL[name] == default, name


@pytest.mark.parametrize("name", OWN_SERVICES)
def test_settings_of_gateways_are_passed_on(name: str) -> None:
    fields = (field.removesuffix("_").upper() for field in SmtpSettings.model_fields)
    variables = {f"{ENV_PREFIX}{field}" for field in fields} | {"SENDTRACE_ALLOW_GATEWAYS"}
    assert variables <= set(SERVICES[name]["environment"])
    values = read_services(REQUIRED | dict.fromkeys(variables, "given"))[name]["environment"]
    assert {values[variable] for variable in variables} == {"given"}


@pytest.mark.parametrize("name", SERVICES)
def test_containers_write_only_to_volumes_and_their_logs_are_rotated(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["tmpfs"]
    assert service["logging"]["options"].keys() == {"max-size", "max-file"}


@pytest.mark.parametrize(
    ("reply", "is_healthy"),
    [("PONG", True), ("LOADING Valkey is loading the dataset in memory", False), ("", False)],
)
def test_a_broker_that_loads_its_data_is_not_healthy(
    tmp_path: Path, reply: str, is_healthy: bool
) -> None:
    """The client exits with 0 also if the reply is an error."""
    client = tmp_path / "valkey-cli"
    client.write_text(f"#!/bin/sh\necho '{reply}'\n")
    client.chmod(0o755)
    for overrides in OVERRIDES.values():
        kind, command = read_services(REQUIRED, *overrides)["broker"]["healthcheck"]["test"]
        assert kind == "CMD-SHELL"
        path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
        checked = subprocess.run(
            ["sh", "-c", command], env={"PATH": path}, stderr=subprocess.DEVNULL, check=False
        )
        assert (checked.returncode == 0) is is_healthy


def test_secrets_in_files_replace_those_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rendered = render(REQUIRED, *OVERRIDES["secrets"])
    for name, service in rendered["services"].items():
        files = {
            variable: value
            for variable, value in service["environment"].items()
            if variable.endswith("_FILE") and value
        }
        assert files or name == "broker"
        for variable, value in files.items():
            assert service["environment"][variable.removesuffix("_FILE")] == ""
            assert value.removeprefix("/run/secrets/") in service["secrets"]
        assert set(service["secrets"]) <= set(rendered["secrets"])
        assert "secret" not in {*service["environment"].values(), *service.get("command", ())}
    web = rendered["services"]["web"]["environment"]
    (tmp_path / "token").write_text("the-token-of-the-page\n")
    (tmp_path / "database_url").write_text("postgresql://sendtrace:x@database/sendtrace\n")
    (tmp_path / "broker_url").write_text("redis://:x@broker:6379/0\n")
    for variable, value in web.items():
        monkeypatch.setenv(variable, value.replace("/run/secrets", str(tmp_path)))
    settings = load_settings()
    assert settings.token is not None
    assert settings.token.get_secret_value() == "the-token-of-the-page"
    assert settings.database_url == "postgresql://sendtrace:x@database/sendtrace"
    assert settings.broker_url == "redis://:x@broker:6379/0"


def test_the_proxy_has_the_domains_and_leads_to_services() -> None:
    text = (EXAMPLES / "Caddyfile").read_text()
    services = read_services(REQUIRED, EXAMPLES / "tls.yml")
    assert set(re.findall(r"\{\$(\w+)\}", text)) == set(services["proxy"]["environment"])
    for service, port in re.findall(r"reverse_proxy (\w+):(\d+)", text):
        assert services[service]["ports"][0].endswith(f":{port}")
    [file] = [volume for volume in services["proxy"]["volumes"] if "Caddyfile" in volume]
    assert Path(ROOT, file.partition(":")[0]) == EXAMPLES / "Caddyfile"


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
