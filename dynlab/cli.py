"""The `dynlab` command: hello, lab, doctor, and serve as Dynamo had it (2025: `dynamo serve`)."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer

from dynlab import __version__
from dynlab.config import ServiceConfig
from dynlab.doctor import doctor as examine
from dynlab.errors import ConfigError, DynlabError, GraphError, did_you_mean, listed
from dynlab.hello import hello as run_hello
from dynlab.lab import open_lab
from dynlab.sdk.graph import resolve
from dynlab.sdk.service import DynamoService
from dynlab.serving.deployment import Deployment, serve

__all__ = ("app", "main")

app = typer.Typer(
    name="dynlab",
    help="NVIDIA Dynamo's Frontend -> Processor -> Workers graph, to run, look at and break.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
_PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True}


def main() -> None:
    """Run the command; what a user can mend is one sentence, never a traceback."""
    try:
        app()
    except DynlabError as error:
        typer.echo(f"dynlab: {error}", err=True)
        sys.exit(1)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"dynlab {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which it is.")
    ] = False,
) -> None:
    """Options of the command itself."""


@app.command()
def hello(
    requests: Annotated[int, typer.Option(min=1, help="Requests for each router mode.")] = 800,
    workers: Annotated[int, typer.Option(min=1, help="Workers.")] = 8,
    seed: Annotated[int, typer.Option(help="Makes the random picks the same in the next run.")] = 7,
    picture: Annotated[Path, typer.Option(help="Where to draw: .png, .svg or .pdf.")] = Path("dynlab_routing.png"),
) -> None:
    """Run the graph once in each router mode, and draw where its requests went."""
    if picture.suffix not in (".png", ".svg", ".pdf"):
        raise typer.BadParameter(f"{picture} is drawn as .png, .svg or .pdf.", param_hint="--picture")
    if not run_hello(requests, workers, seed, picture, typer.echo):
        raise typer.Exit(1)


@app.command(context_settings=_PASS_ON)
def lab(
    context: typer.Context,
    port: Annotated[int, typer.Option(help="JupyterLab's port; it takes the next free one.")] = 8888,
    browser: Annotated[bool, typer.Option(help="Open a browser, where there is one.")] = True,
) -> None:
    """Open the tutorial in JupyterLab; what else is given is passed on to it."""
    sys.exit(open_lab(port, browser, context.args, typer.echo))


@app.command()
def doctor() -> None:
    """Say what works on this machine, and how to mend the rest."""
    report = examine()
    typer.echo(repr(report))
    if not report.healthy:
        raise typer.Exit(1)


@app.command("serve", context_settings=_PASS_ON)
def serve_command(
    context: typer.Context,
    graph: Annotated[str, typer.Argument(help="module:Class, as in components.graph:Frontend.")],
    config: Annotated[
        Path | None, typer.Option("-f", "--config-file", "--file", help="YAML {Service: {key: value}}.")
    ] = None,
    port: Annotated[int, typer.Option("-p", "--port", help="Where the Frontend listens; 0 takes a free port.")] = 3000,
    host: Annotated[str, typer.Option(help="The address it listens on.")] = "127.0.0.1",
    router_mode: Annotated[
        str | None, typer.Option(help="round-robin, random, power-of-two, least-loaded, direct.")
    ] = None,
    workers: Annotated[list[str] | None, typer.Option(help="Service=N; may be repeated.")] = None,
    seed: Annotated[int | None, typer.Option(help="Makes random picks repeatable.")] = None,
    migration_limit: Annotated[int, typer.Option(min=0, help="How often a dead worker's request is sent again.")] = 0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be started, and stop.")] = False,
) -> None:
    """Run a graph of your own: dynlab serve graph:Frontend -f config.yaml --Processor.router=random."""
    entry = load_graph(graph)
    counts: dict[str | DynamoService, int] = dict(_worker_count(text) for text in workers or [])
    settings: dict[str, Any] = {"workers": counts or None, "config": config, "overrides": context.args}
    if dry_run:
        _describe(entry, settings)
        return
    stopped = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        stopped.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    with serve(
        entry, port=port, host=host, router_mode=router_mode, seed=seed, migration_limit=migration_limit, **settings
    ) as deployment:
        _announce(deployment)
        _print_logs(deployment, stopped)
        typer.echo("Stopping: requests under way are finished first.")
        deployment.close(timeout=30.0, hurry=False)
    typer.echo("Stopped.")


def load_graph(path: str) -> DynamoService:
    """Import `module:Class` from the current folder; without a class, the module's service that none depends on.

    Raises:
        GraphError: if there is no such module or service.
    """
    module_name, _, name = path.partition(":")
    sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not (module_name + ".").startswith(error.name + "."):
            raise GraphError(f"{module_name} imports {error.name!r}, which is not installed.") from None
        raise GraphError(
            f"No module {module_name!r} in {os.getcwd()}; write module:Class, as in components.graph:Frontend."
        ) from None
    services = {key: value for key, value in vars(module).items() if isinstance(value, DynamoService)}
    if name:
        if name not in services:
            raise GraphError(
                f"{module_name} has no service {name!r}; it has {listed(services)}.{did_you_mean(name, services)}"
            )
        return services[name]
    called = {id(callee) for found in services.values() for callee in [*found.dependencies, *found.links]}
    entries = [found for found in services.values() if id(found) not in called]
    if len(entries) != 1:
        raise GraphError(f"{module_name} has the services {listed(services)}; say which to enter: {module_name}:Class.")
    return entries[0]


def _worker_count(text: str) -> tuple[str, int]:
    name, _, count = text.partition("=")
    if not name or not count.isdigit():
        raise ConfigError(f"--workers {text!r}: write Service=N, as in --workers DummyWorker=4.")
    return name, int(count)


def _describe(entry: DynamoService, settings: dict[str, Any]) -> None:
    loaded = ServiceConfig.load(settings["config"], settings["overrides"])
    graph = resolve(entry, settings["workers"], loaded)
    for found in graph.services:
        keys = loaded.for_service(found.name)
        typer.echo(f"{found.namespace}/{found.name} x {graph.workers[found.name]}  {keys or ''}".rstrip())


def _announce(deployment: Deployment) -> None:
    for name, count in deployment.workers.items():
        typer.echo(f"{name}: {count} instance{'s' if count != 1 else ''}")
    for api, keys in deployment.apis.items():
        body = ",".join(f'"{key}":"..."' for key in keys)
        typer.echo(f"POST {deployment.url}/{api} takes {listed(keys)}")
        typer.echo(f"  curl -X POST {deployment.url}/{api} -H 'accept: text/event-stream' -d '{{{body}}}'")
    typer.echo("Ctrl-C stops it.")


def _print_logs(deployment: Deployment, stopped: threading.Event) -> None:
    """Print what the services log until a signal comes."""
    shown = 0
    while not stopped.wait(0.1):
        lines, shown = deployment.logs_since(shown)
        for line in lines:
            typer.echo(line)
