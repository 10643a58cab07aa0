"""What lies in deploy/ says what is so: settings, ports, probes, limits, metrics; and its own linters take it."""

from __future__ import annotations

import re
import subprocess
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import promql_parser
import pytest
import yaml  # type: ignore[import-untyped]
from compose_spec import PyCompose
from prometheus_client.parser import text_string_to_metric_families

from docs.from_code.http import openapi
from legato.core.run_errors import RunError
from legato.settings import Settings, load_settings
from legato.telemetry.metrics import Metrics

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
FILES = sorted(path for path in DEPLOY.rglob("*") if path.is_file())
MANIFESTS = sorted(path for path in (DEPLOY / "kubernetes").glob("*.yaml") if path.stem != "kustomization")
RULES: list[dict[str, Any]] = yaml.safe_load((DEPLOY / "alerts.yaml").read_text())["groups"][0]["rules"]
RUNBOOK = ROOT / "docs/guides/runbook.md"
OWN_FAMILIES = {name: {"instance", "job"} for name in ("up", "process_open_fds", "process_max_fds")}
"""What Prometheus itself and its client's library tell."""


def name_of(path: Path) -> str:
    return str(path.relative_to(DEPLOY))


def text_of(name: str) -> str:
    return (DEPLOY / name).read_text("utf-8")


def manifest(name: str) -> Any:
    return yaml.safe_load(text_of(f"kubernetes/{name}.yaml"))


def default(name: str) -> Any:
    return Settings.model_fields[name].default


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_every_variable_is_a_setting(path: Path) -> None:
    """No file sets a name that the server would refuse."""
    known = {f"LEGATO_{name}".upper() for name in Settings.model_fields}
    assert set(re.findall(r"LEGATO_[A-Z_]*[A-Z]", path.read_text())) <= known


@pytest.mark.parametrize("values", ["image", "compose", "kubernetes"])
def test_the_settings_that_are_set_are_taken(values: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each value is one that the server takes, and a port and a host beyond this machine go with keys."""
    monkeypatch.chdir(tmp_path)
    image = dict(re.findall(r"(LEGATO_[A-Z_]+)=(\S+)", text_of("Dockerfile").split("AS server")[1].split("USER")[0]))
    own: dict[str, dict[str, Any]] = {
        "image": {},
        "compose": yaml.safe_load(text_of("compose.yaml"))["services"]["node-1"]["environment"],
        "kubernetes": manifest("config")["data"] | manifest("secret.example")["stringData"],
    }
    for name, value in (image | own[values]).items():
        if value is not None:
            monkeypatch.setenv(name, re.sub(r"\$\{\w+:[-?]([^}]*)\}", "a-word-of-16-chars", str(value)))
    settings = load_settings()
    assert settings.auth == "keys"
    assert (settings.host, settings.port) == ("0.0.0.0", default("port"))
    assert settings.uses_postgres == (values != "image")


def test_the_port_is_the_same_everywhere() -> None:
    """Image, proxies, compose file and manifests name the server's own."""
    port = default("port")
    for name in ("Dockerfile", "compose.yaml", "nginx.conf", "Caddyfile", "kubernetes/deployment.yaml"):
        found = set(re.findall(r"(?:\w|\]):(3\d{3})\b|EXPOSE (\d+)|containerPort: (\d+)", text_of(name)))
        assert {number for each in found for number in each if number} == {str(port)}, name


def test_probes_are_routes() -> None:
    """What is asked for is answered, by the image, the proxies, the compose file and the manifests."""
    routes = set(openapi()["paths"])
    for path in FILES:
        for probe in re.findall(r"/health/[a-z]+", path.read_text()):
            assert probe in routes, (name_of(path), probe)
    container = manifest("deployment")["spec"]["template"]["spec"]["containers"][0]
    kinds = {kind: container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")}
    assert {kind: get["path"] for kind, get in kinds.items()} == {
        "startup": "/health/live",
        "liveness": "/health/live",
        "readiness": "/health/ready",
    }


def test_a_stop_has_the_time_that_a_drain_takes() -> None:
    """More than LEGATO_DRAIN_S, what comes after it, and what a pod waits before."""
    pod = manifest("deployment")["spec"]["template"]["spec"]
    wait_s = int(pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][-1])
    drain_s = float(manifest("config")["data"]["LEGATO_DRAIN_S"])
    assert pod["terminationGracePeriodSeconds"] >= wait_s + drain_s + 15
    node = yaml.safe_load(text_of("compose.yaml"))["services"]["node-2"]
    assert int(node["stop_grace_period"].removesuffix("s")) >= float(node["environment"]["LEGATO_DRAIN_S"]) + 15


def test_proxies_hold_nothing_back() -> None:
    """No buffering, more patience than the heartbeat, bodies as large as the server takes, nothing sent twice."""
    nginx = text_of("nginx.conf")
    assert re.search(r"^\s*proxy_buffering off;", nginx, re.MULTILINE)
    assert "non_idempotent" not in nginx
    timeout_s = re.search(r"proxy_read_timeout (\d+)s;", nginx)
    assert timeout_s is not None
    assert int(timeout_s[1]) > 2 * default("heartbeat_s")
    assert default("max_body_bytes") == 1 << 20
    assert "client_max_body_size 1m;" in nginx
    caddy = text_of("Caddyfile")
    assert re.search(r"^\s*flush_interval -1$", caddy, re.MULTILINE)
    assert "lb_retry_match" not in caddy
    assert "max_size 1MiB" in caddy
    notes = manifest("ingress")["metadata"]["annotations"]
    assert notes["nginx.ingress.kubernetes.io/proxy-buffering"] == "off"
    assert notes["nginx.ingress.kubernetes.io/proxy-body-size"] == "1m"
    assert int(notes["nginx.ingress.kubernetes.io/proxy-read-timeout"]) > 2 * default("heartbeat_s")


def test_the_image_is_one_that_hadolint_takes() -> None:
    """Its own linter finds nothing; it runs as nobody in particular."""
    program = Path(sysconfig.get_path("scripts")) / "hadolint"
    done = subprocess.run([program, DEPLOY / "Dockerfile"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    users = re.findall(r"^USER (\S+)$", text_of("Dockerfile"), re.MULTILINE)
    assert users == ["10001:10001"]


def test_the_image_s_context_has_what_it_is_built_from() -> None:
    """Whatever the wheel's build reads is let in by the ignore file, and exists."""
    let_in = re.findall(r"^!(\S+)$", text_of("Dockerfile.dockerignore"), re.MULTILINE)
    for name in let_in:
        assert (ROOT / name).exists(), name
    from hatch_build import C_SOURCE, SOURCES

    needed = {*SOURCES, str(C_SOURCE.parent), "pyproject.toml", "README.md", "LICENSE", "hatch_build.py", "src"}
    assert needed | {"requirements"} == set(let_in)


def test_the_compose_file_is_one() -> None:
    """Names, networks, volumes and conditions are known; what is secret has to be given."""
    text = text_of("compose.yaml")
    merged = yaml.safe_load(text)
    found = PyCompose.from_yaml(yaml.safe_dump(merged))
    found.validate()
    found.validate_networks()
    assert {name for name in merged["services"] if name.startswith("node-")} == {"node-1", "node-2", "node-3"}
    asked = set(re.findall(r"\$\{(\w+)", text))
    offered = set(re.findall(r"^#?([A-Z_]+)=", text_of("compose.env.example"), re.MULTILINE))
    assert asked <= offered
    for name in ("POSTGRES_PASSWORD", "REDIS_PASSWORD", "METRICS_TOKEN"):
        assert set(re.findall(rf"\$\{{{name}(.)", text)) == {":"}
        assert f"{name}:-" not in text


@pytest.mark.parametrize("path", MANIFESTS, ids=name_of)
def test_a_manifest_is_one(path: Path) -> None:
    """Strictly, against the schema of its kind."""
    for document in yaml.safe_load_all(path.read_text()):
        kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)


def test_manifests_belong_together() -> None:
    """What one names another has: labels, the secret, the map, the service's port."""
    files = {path.name for path in MANIFESTS} - {"secret.example.yaml"}
    assert set(manifest("kustomization")["resources"]) == files
    deployment = manifest("deployment")["spec"]
    labels = deployment["template"]["metadata"]["labels"]
    assert deployment["selector"]["matchLabels"] == labels
    assert manifest("service")["spec"]["selector"] == labels
    assert manifest("disruption-budget")["spec"]["selector"]["matchLabels"] == labels
    pod = deployment["template"]["spec"]
    names = {next(iter(each.values()))["name"] for each in pod["containers"][0]["envFrom"]}
    assert names == {manifest("config")["metadata"]["name"], manifest("secret.example")["metadata"]["name"]}
    # Else a Service named legato brings LEGATO_PORT=tcp://… along.
    assert pod["enableServiceLinks"] is False
    backend = manifest("ingress")["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]
    assert backend == {"name": manifest("service")["metadata"]["name"], "port": {"name": "http"}}


def selectors(expression: str) -> Iterator[Any]:
    """Yield the vector selectors of an expression."""
    found: list[Any] = []

    def visit(node: Any) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            found.append(node)

    promql_parser.walk(promql_parser.parse(expression), visit)
    yield from found


def told() -> dict[str, set[str]]:
    """Return the names of all series that a server tells, each with its labels."""
    metrics = Metrics(["some-model"])
    metrics.expect_request("GET", "/x", 200)
    metrics.expect_steps(["some-step"])
    series = dict(OWN_FAMILIES)
    for family in text_string_to_metric_families(metrics.render().decode()):
        for sample in family.samples:
            if sample.name.startswith("legato_"):
                series.setdefault(sample.name, {"instance", "job"}).update(sample.labels)
    return series


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule["alert"]))
def test_an_alert_watches_what_is_told(rule: dict[str, Any]) -> None:
    """It is PromQL over series and labels that `/metrics` has, and error codes that there are."""
    series = told()
    codes = {each.code for each in _below(RunError)}
    for selector in selectors(rule["expr"]):
        assert selector.name in series, selector.name
        for matcher in selector.matchers.matchers:
            assert matcher.name in series[selector.name], (selector.name, matcher.name)
            if matcher.name == "code" or (matcher.name == "reason" and selector.name.startswith("legato_runs_ended")):
                assert matcher.value in codes
    assert rule["labels"]["severity"] in ("critical", "warning")
    labels = set().union(*(series[selector.name] for selector in selectors(rule["expr"])))
    assert set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"])) <= labels


def test_figures_of_alerts_are_those_of_the_settings() -> None:
    """A limit that an alert comes near is the default."""
    expressions = {rule["alert"]: rule["expr"] for rule in RULES}
    assert expressions["LegatoNearlyFull"].endswith(f"* {default('max_active_runs')}")
    assert expressions["LegatoManyReaders"].endswith(f"* {default('max_readers')}")


def test_the_runbook_says_what_each_alert_means() -> None:
    """One row for each, and none besides."""
    rows = re.findall(r"^\| `(Legato\w+)` \|", RUNBOOK.read_text("utf-8"), re.MULTILINE)
    assert sorted(rows) == sorted(rule["alert"] for rule in RULES)


def _below(kind: type[Any]) -> Iterator[type[Any]]:
    for each in kind.__subclasses__():
        yield each
        yield from _below(each)
