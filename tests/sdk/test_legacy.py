"""`import dynamo.sdk` is dynlab on request, beside a real `dynamo` package and without one; graph files of 2025 run."""

from __future__ import annotations

import importlib
import os
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

import dynlab
from dynlab.errors import DynlabError
from dynlab.sdk import legacy
from dynlab.sdk.graph import resolve
from dynlab.sdk.legacy.modules import SDK
from dynlab.serving.serve import serve
from tests.commands import running
from tests.legacy import FOLDER, GraphFiles, graph_files

ROOT = Path(dynlab.__file__).parents[1]
HIDE = """
import sys
from importlib.machinery import PathFinder

class NoDynamo:
    @staticmethod
    def find_spec(name, path=None, target=None):
        return None if name.partition(".")[0] == "dynamo" else PathFinder.find_spec(name, path, target)

sys.meta_path[:] = [NoDynamo if finder is PathFinder else finder for finder in sys.meta_path]
"""
"""What a program begins with that shall not see an installed `dynamo` package."""


@pytest.fixture
def graphs() -> Iterator[GraphFiles]:
    with graph_files() as files:
        yield files


@pytest.fixture
def hook() -> Iterator[None]:
    legacy.install()
    yield
    legacy.uninstall()


def python(code: str, before: str = HIDE) -> str:
    """Run a program that sees no installed `dynamo` package, or one that does, and return what it prints."""
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{FOLDER}"}
    done = subprocess.run([sys.executable, "-c", before + code], env=environment, capture_output=True, text=True)
    assert 0 == done.returncode, done.stderr
    return done.stdout


# ---------------------------------------------------------------------------- the hook


@pytest.mark.parametrize("module", SDK)
@pytest.mark.usefixtures("hook")
def test_every_module_offers_its_names(module: str) -> None:
    """Each can be imported, and `from module import *` brings exactly its names."""
    found: dict[str, Any] = {}
    exec(f"from {module} import *", found)

    assert dict(SDK[module]) == {name: value for name, value in found.items() if name != "__builtins__"}


@pytest.mark.usefixtures("hook")
def test_the_names_of_three_releases_are_there() -> None:
    """0.1.1, 0.2.x and 0.3.x together, as the table of releases lists them."""
    names = {"api", "dynamo_endpoint", "dynamo_api", "depends", "service", "async_on_start", "async_on_shutdown"}
    names |= {"dynamo_context", "server_context", "DYNAMO_IMAGE"}  # 0.1.1
    names |= {"endpoint", "abstract_endpoint", "AbstractService", "liveness", "readiness", "on_shutdown"}  # 0.3.x

    assert names == set(importlib.import_module("dynamo.sdk").__all__)


def test_nothing_is_installed_unless_asked_for() -> None:
    """dynlab alone leaves the import system as it is."""
    out = python("import sys; before = list(sys.meta_path); import dynlab.cli; print(before == sys.meta_path)")

    assert "True\n" == out


def test_the_hook_goes_in_once_and_out_again() -> None:
    """Installing twice is installing once; after `uninstall` there is no `dynamo.sdk`, and all finders are gone."""
    before = list(sys.meta_path)
    legacy.install()
    once = list(sys.meta_path)
    legacy.install()

    assert once == sys.meta_path
    assert importlib.import_module("dynamo.sdk").service is not dynlab.service
    legacy.uninstall()
    legacy.uninstall()
    assert before == sys.meta_path
    assert not [name for name in sys.modules if name.startswith("dynamo.sdk")]
    with pytest.raises(ModuleNotFoundError, match=r"dynamo"):
        importlib.import_module("dynamo.sdk")


def test_threads_may_import_and_install_at_once(hook: None) -> None:
    """Sixteen threads that install and import together get the same module, and the hook is there once."""
    ready = threading.Barrier(16)

    def load(_: int) -> Any:
        ready.wait()
        legacy.install()
        return importlib.import_module("dynamo.sdk.lib.config")

    with ThreadPoolExecutor(16) as pool:
        modules = set(pool.map(load, range(16)))

    assert 1 == len(modules)
    assert 2 == sum(type(finder).__module__ == legacy.__name__ for finder in sys.meta_path)


def test_an_sdk_that_was_there_is_there_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An old Dynamo's own `dynamo.sdk`, imported before, gives way, and comes back with `uninstall`."""
    (tmp_path / "dynamo" / "sdk").mkdir(parents=True)
    (tmp_path / "dynamo" / "sdk" / "__init__.py").write_text("service = 'theirs'\n")
    monkeypatch.syspath_prepend(tmp_path)
    theirs = importlib.import_module("dynamo.sdk")
    try:
        legacy.install()
        assert "theirs" != importlib.import_module("dynamo.sdk").service
        legacy.uninstall()
        assert theirs is importlib.import_module("dynamo.sdk")
        assert theirs is sys.modules["dynamo"].sdk
    finally:
        del sys.modules["dynamo.sdk"], sys.modules["dynamo"].sdk


@pytest.mark.needs_real_engine
def test_the_real_package_keeps_its_own() -> None:
    """`dynamo.runtime` and `dynamo.llm` are those of ai-dynamo-runtime, and a graph of 2025 runs on it."""
    code = """
from dynlab import serve
from dynlab.sdk import legacy
legacy.install()
import dynamo._core, dynamo.llm, dynamo.runtime
from blog_graph import Frontend
print(dynamo.runtime.DistributedRuntime is dynamo._core.DistributedRuntime, hasattr(dynamo.llm, "KvRouter"))
with serve(Frontend, runtime="ai_dynamo") as deployment:
    print(len([item for n in range(4) for item in deployment.ask("a", request_id=f"r-{n}")]))
    print(deployment.ask("a", request_id="r-4")[0].split("_GeneratedBy_")[0])
"""
    assert 'True True\n4\nResponse: {"worker_output":"a_ProcessedBy_p\n' == python(code, before="")


def test_without_a_dynamo_package_a_graph_runs() -> None:
    """The modules that graph files import besides are there too, and the chain of three answers."""
    code = """
from dynlab import serve
from dynlab.sdk import legacy
legacy.install()
from chain_graph import Frontend
with serve(Frontend) as deployment:
    print(*deployment.ask("test", api="generate"))
legacy.uninstall()
print(sorted(name for name in sys.modules if name.partition(".")[0] == "dynamo"))
"""
    assert "Frontend: Middle: Backend: test-mid-back\n[]\n" == python(code)


def test_without_a_dynamo_package_there_is_still_no_engine() -> None:
    """The stand-in does not pass for the real engine, and says where that comes from."""
    code = """
from dynlab import serve
from dynlab.hello_world import Frontend
from dynlab.sdk import legacy
legacy.install()
import dynamo.runtime
try:
    from dynamo.runtime import dynamo_worker
except ImportError as error:
    print(error)
try:
    serve(Frontend, runtime="ai_dynamo")
except Exception as error:
    print(type(error).__name__)
"""
    sentence, refused = python(code).splitlines()

    assert "dynlab's dynamo.runtime has no 'dynamo_worker'; it has DistributedRuntime, logging. " in sentence
    assert sentence.endswith("It is of Dynamo's own runtime: pip install 'dynlab[dynamo]' (Linux).")
    assert refused.endswith("Error")


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (
            "from dynamo.sdk import endpont",
            "dynlab's dynamo.sdk has no 'endpont'; it has AbstractService, .*'endpoint'",
        ),
        ("import dynamo.sdk.cli.serve", "has no 'cli'; .* `dynlab serve --dynamo-sdk module:Class` does what"),
        ("from dynamo.sdk.lib.config import Config", "dynamo.sdk.lib.config has no 'Config'; it has ServiceConfig. .*"),
        ("from dynamo.sdk.core.protocol.interface import LinkedServices", "Links are kept by the services"),
    ],
)
@pytest.mark.usefixtures("hook")
def test_a_name_that_there_is_not_is_one_sentence(line: str, sentence: str) -> None:
    """An ImportError that says what there is and what to do; `hasattr` is simply False."""
    with pytest.raises(legacy.LegacyImportError, match=sentence) as raised:
        exec(line)

    assert isinstance(raised.value, ImportError)
    assert isinstance(raised.value, DynlabError)
    assert not hasattr(importlib.import_module("dynamo.sdk"), "endpont")


# ---------------------------------------------------------------------------- the graph of two machines


@pytest.mark.parametrize("router", ["round-robin", "random"])
def test_the_multi_node_hello_world_runs_in_one_process(router: str, graphs: GraphFiles) -> None:
    """The link keeps the workers away; named, they join, and the answer is the line of 0.2.0."""
    frontend = graphs.load("components.graph", anew=True).Frontend
    host = importlib.import_module("socket").gethostname()
    expected = (
        f"Frontend: {{'worker_output':'test prompt_ProcessedBy_{host}_GeneratedBy_{host}','request_id':'id_number'}}"
    )

    assert ["Processor", "Frontend"] == [found.name for found in resolve(frontend).services]
    with serve(
        frontend,
        workers={"DummyWorker": 2},
        config=FOLDER / "multi_worker.yaml",
        overrides=[f"--Processor.router={router}"],
        name="multi-node",
    ) as deployment:
        body = {"prompt": "test prompt", "request_id": "id_number"}
        answers = [httpx.post(f"{deployment.url}/generate", json=body, trust_env=False).text for _ in range(4)]
        served = deployment.traces.requests_per_worker("DummyWorker")

    assert {expected.replace("'", '"')} == set(answers)
    assert router == "random" or {"DummyWorker-0": 2, "DummyWorker-1": 2} == served


def test_the_command_runs_it(tmp_path: Path) -> None:
    """`dynlab serve --dynamo-sdk components.graph:Frontend -f multi_worker.yaml` with the workers named."""
    arguments = ["--dynamo-sdk", "components.graph:Frontend", "-f", str(FOLDER / "multi_worker.yaml")]
    (tmp_path / "components").symlink_to(FOLDER / "components")
    with running("serve", *arguments, "--workers", "DummyWorker=2", "--port", "0", cwd=tmp_path) as command:
        words = shlex.split(command.wait_for("curl .*"))
        headers = dict([words[words.index("-H") + 1].split(": ")])
        answer = httpx.post(words[words.index("POST") + 1], headers=headers, content=words[-1], trust_env=False).text

        assert answer.startswith('Frontend: {"worker_output":"..._ProcessedBy_')
        assert "----workers are all ready [7001, 7002]" in command.output
        assert "INFO" in command.wait_for(r".*components.processor: Received .*")


def test_dynlabs_own_graph_runs_with_the_option_too(tmp_path: Path) -> None:
    """The hook takes nothing from a graph that does not need it."""
    with running("serve", "--dynamo-sdk", "dynlab.hello_world", "--port", "0", cwd=tmp_path) as command:
        url = command.wait_for(r"http://127\.0\.0\.1:\d+/fegenerate")
        answer = httpx.post(url, json={"prompt": "x", "request_id": "r"}, trust_env=False).text

        assert 'Response: {"worker_output":"x_ProcessedBy_Processor-0_GeneratedBy_DummyWorker-0"' in answer


def test_without_the_option_the_command_names_it(tmp_path: Path) -> None:
    """A graph file of 2025 is recognised by what it imports."""
    (tmp_path / "old_graph.py").write_text("from dynamo.sdk import service\n")
    command = [sys.executable, "-m", "dynlab", "serve", "old_graph"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)

    assert 1 == done.returncode
    assert "old_graph imports 'dynamo.sdk', the SDK that Dynamo had until 0.4.0." in done.stderr
    assert "dynlab serve --dynamo-sdk" in done.stderr
    assert 1 == done.stderr.count("\n")
