"""Products that others run, as peers: each in an environment of its own, off unless asked for.

They are installed by pip into `bench/.build/peers/NAME` when they are first measured (LiteLLM 0.7 GB,
Open WebUI several), and never become part of Legato's own environment.
"""

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.target import Place, Target
from bench.toolchain import BUILD_DIR, BenchError

PACKAGES: Mapping[str, str] = {"litellm": "litellm[proxy]==1.109.1", "open-webui": "open-webui==0.12.4"}
"""What is installed for which product."""

PEERS_DIR = BUILD_DIR / "peers"


def installed(name: str) -> Path:
    """Return the folder of a product's programs, installing it when it is not there.

    Raises:
        BenchError: pip could not install it; the message holds pip's last words.
    """
    home = PEERS_DIR / name
    done = home / f"{PACKAGES[name].replace('/', '-')}.installed"
    if not done.exists():
        print(f"installing {PACKAGES[name]} into {home} (once; takes minutes) ...", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(home)], check=True)
        command = [str(home / "bin" / "python"), "-m", "pip", "install", "--quiet", PACKAGES[name]]
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        if made.returncode:
            raise BenchError(f"{PACKAGES[name]} could not be installed: {made.stderr.strip()[-500:]}")
        done.touch()
    return home / "bin"


def _litellm_command(place: Place) -> Sequence[str]:
    model = {"model": "openai/mock-model", "api_base": place.mock.url, "api_key": "sk-bench"}
    # JSON is YAML too.
    configuration = {"model_list": [{"model_name": "mock-model", "litellm_params": model}]}
    path = place.folder / "litellm.yaml"
    path.write_text(json.dumps(configuration))
    program = installed("litellm") / "litellm"
    return [str(program), "--config", str(path), "--host", "127.0.0.1", "--port", str(place.port)]


def _litellm_env(place: Place) -> Mapping[str, str]:
    return {
        "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_TELEMETRY": "False",
        # A line of log for every request would be charged to it.
        "LITELLM_LOG": "ERROR",
    }


def _open_webui_command(place: Place) -> Sequence[str]:
    program = installed("open-webui") / "open-webui"
    return [str(program), "serve", "--host", "127.0.0.1", "--port", str(place.port)]


def _open_webui_env(place: Place) -> Mapping[str, str]:
    return {
        "DATA_DIR": str(place.folder / "open-webui"),
        "WEBUI_SECRET_KEY": "bench",
        "WEBUI_AUTH": "False",
        "OPENAI_API_BASE_URL": place.mock.url,
        "OPENAI_API_KEY": "sk-bench",
        "ENABLE_OLLAMA_API": "False",
        # Nothing is fetched: no weights, no version, no community.
        "OFFLINE_MODE": "True",
        "HF_HUB_OFFLINE": "1",
        "RAG_EMBEDDING_ENGINE": "openai",
        "BYPASS_EMBEDDING_AND_RETRIEVAL": "True",
        "ENABLE_VERSION_UPDATE_CHECK": "False",
        "GLOBAL_LOG_LEVEL": "ERROR",
        "ANONYMIZED_TELEMETRY": "False",
    }


def _sign_in_to_open_webui(port: int) -> str:
    """Return a token of the one user it has without sign-in, once it answers; it wants to know its models first."""
    end = time.monotonic() + 120
    while True:
        try:
            token: str = _ask(port, "/api/v1/auths/signin", body={"email": "", "password": ""})["token"]
            _ask(port, "/api/models", token=token)
        except (OSError, urllib.error.URLError, KeyError) as error:
            if time.monotonic() > end:
                raise BenchError(f"open-webui lets nobody in: {error}") from error
            time.sleep(0.5)
        else:
            return token


def _ask(port: int, path: str, *, body: object = None, token: str = "") -> dict[str, str]:
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data=data, headers=headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        told: dict[str, str] = json.load(answer)
    return told


PRODUCTS: Mapping[str, Target] = {
    target.name: target
    for target in (
        Target(
            name="litellm",
            protocol="openai",
            command=_litellm_command,
            env=_litellm_env,
            most_streams=20,
            start_limit_s=180,
        ),
        Target(
            name="open-webui",
            protocol="openai",
            command=_open_webui_command,
            env=_open_webui_env,
            most_streams=20,
            start_limit_s=300,
            path="/api/chat/completions",
            sign_in=_sign_in_to_open_webui,
        ),
    )
}
"""Further servers under test, by name; how many streams each can still serve was found by trying."""
