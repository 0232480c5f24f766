"""The `dynlab` command: hello, lab, doctor, and serve as Dynamo had it (2025: `dynamo serve`)."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from dynlab import __version__
from dynlab.config import ServiceConfig
from dynlab.doctor import doctor as examine
from dynlab.errors import ConfigError, DynlabError
from dynlab.hello import hello as run_hello
from dynlab.lab import open_lab
from dynlab.routing.modes import router_name
from dynlab.running import describe, run_processes, run_threads
from dynlab.sdk import legacy
from dynlab.sdk.graph import resolve, settle_router
from dynlab.sdk.loader import load_graph
from dynlab.sdk.service import DynamoService
from dynlab.serving.process import Orders, orders_of, run_instance
from dynlab.serving.serve import serve
from dynlab.status import status_lines

__all__ = ("app", "load_graph", "main")

INTERRUPTED = 130
LOG_FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
"""How the lines look that graph files of 2025 log, to loggers of their own."""

app = typer.Typer(
    name="dynlab",
    help="NVIDIA Dynamo's Frontend -> Processor -> Workers graph, to run, look at and break.",
    epilog="Begin with `dynlab lab`, or, without a browser, with `dynlab hello`.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain sentences: no box breaks them up, and a pipe gets what a terminal shows
)
_PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; what a user can mend is one sentence, never a traceback."""
    try:
        app(arguments)
    except DynlabError as error:
        typer.echo(f"dynlab: {error}", err=True)
        sys.exit(1)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"dynlab {__version__}")
        raise typer.Exit


def _drawable(picture: Path) -> Path:
    if picture.suffix not in (".png", ".svg", ".pdf"):
        raise typer.BadParameter(f"{str(picture)!r} must end in .png, .svg or .pdf.")
    if not picture.parent.is_dir():
        raise typer.BadParameter(f"there is no folder {str(picture.parent)!r} to draw {picture.name} in.")
    return picture


class RuntimeName(StrEnum):
    """The values of `--runtime`."""

    local = "local"
    ai_dynamo = "ai_dynamo"


class Discovery(StrEnum):
    """The values of `--discovery`."""

    file = "file"
    etcd = "etcd"


@contextmanager
def _interruptible() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        typer.echo("Broken off.", err=True)
        raise typer.Exit(INTERRUPTED) from None


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
    port: Annotated[int, typer.Option("-p", "--port", help="Where the Frontend listens; 0 takes a free port.")] = 0,
    picture: Annotated[Path, typer.Option(callback=_drawable, help="Where to draw: .png, .svg or .pdf.")] = Path(
        "dynlab_routing.png"
    ),
) -> None:
    """Run the graph once in each router mode; draw who answered.

    Fails when a request failed, or when the counts are not what the mode promises.

    \b
    dynlab hello
    dynlab hello --requests 100 --workers 4 --picture routing.svg
    """
    with _interruptible():
        if not run_hello(requests, workers, seed, port, picture, typer.echo):
            raise typer.Exit(1)


@app.command(context_settings=_PASS_ON)
def lab(
    context: typer.Context,
    port: Annotated[int, typer.Option(help="JupyterLab's port; if it is taken, the next free one.")] = 8888,
    browser: Annotated[bool, typer.Option(help="Open a browser, where there is one.")] = True,
) -> None:
    """Open the tutorial in JupyterLab.

    What else is given is passed on to JupyterLab.

    \b
    dynlab lab
    dynlab lab --no-browser --port 9000 --ServerApp.log_level=INFO
    """
    sys.exit(open_lab(port, browser, context.args, typer.echo))


@app.command()
def doctor() -> None:
    """Say what works on this machine, and how to mend the rest.

    Fails only when something is missing that the tutorial cannot do without.
    """
    report = examine()
    typer.echo(repr(report))
    if not report.healthy:
        raise typer.Exit(1)


@app.command("serve", context_settings=_PASS_ON)
def serve_command(
    context: typer.Context,
    graph: Annotated[str, typer.Argument(help="module:Class; without a class, its Frontend or last entry.")],
    config: Annotated[
        Path | None, typer.Option("-f", "--config-file", "--file", help="YAML {Service: {key: value}}.")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option("-p", "--port", help="Where the Frontend listens, else 3000; 0 takes a free port."),
    ] = None,
    host: Annotated[str, typer.Option(help="The address it listens on.")] = "127.0.0.1",
    router_mode: Annotated[
        str | None, typer.Option(help="round-robin, random, power-of-two, least-loaded, direct.")
    ] = None,
    workers: Annotated[list[str] | None, typer.Option(help="Service=N; may be repeated.")] = None,
    seed: Annotated[int | None, typer.Option(help="Makes random picks repeatable.")] = None,
    migration_limit: Annotated[int, typer.Option(min=0, help="How often a dead worker's request is sent again.")] = 0,
    runtime: Annotated[
        RuntimeName, typer.Option(help="local: threads of one process; ai_dynamo: a process for each instance.")
    ] = RuntimeName.local,
    discovery: Annotated[
        Discovery, typer.Option(help="With ai_dynamo: file, on this machine; or etcd, at ETCD_ENDPOINTS.")
    ] = Discovery.file,
    start_timeout: Annotated[float, typer.Option(min=0.1, help="Seconds that all services may take to start.")] = 30.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be started, and stop.")] = False,
    dynamo_sdk: Annotated[
        bool, typer.Option("--dynamo-sdk", help="The graph is written for Dynamo 0.1 to 0.3: `import dynamo.sdk`.")
    ] = False,
) -> None:
    """Run a graph of your own until it is stopped.

    --Service.key=value replaces a key of the config file.

    \b
    dynlab serve components.graph:Frontend -f config.yaml --Processor.router=random
    dynlab serve dynlab.hello_world --workers DummyWorker=4
    dynlab serve dynlab.hello_world --runtime ai_dynamo --workers DummyWorker=4
    """
    if dynamo_sdk:
        legacy.install()
        logging.basicConfig(level=logging.INFO, format=LOG_FORMAT, datefmt="%H:%M:%S")
    entry = load_graph(graph)
    port = legacy.default_port(entry) if port is None else port
    counts: dict[str | DynamoService, int] = dict(_worker_count(text) for text in workers or [])
    settings = ServiceConfig.load(config, context.args)
    if dry_run:
        describe(entry, counts, settings, router_mode, typer.echo)
        return
    with _interruptible():
        if runtime == "ai_dynamo":
            graph_of = resolve(entry, counts, settings)
            settled = router_name(settle_router(router_mode, settings))
            run_processes(
                graph_of,
                lambda service, number: Orders(
                    service=f"{service.__module__}:{service.name}",
                    dynamo_sdk=dynamo_sdk,
                    number=number,
                    discovery=discovery.value,
                    router_mode=settled,
                    config=dict(settings),
                    migration_limit=migration_limit,
                    seed=seed,
                    host=host,
                    port=port if service.apis else 0,
                ),
                start_timeout,
                typer.echo,
            )
            return
        run_threads(
            lambda: serve(
                entry,
                workers=counts,
                router_mode=router_mode,
                config=settings,
                seed=seed,
                host=host,
                port=port,
                migration_limit=migration_limit,
                start_timeout=start_timeout,
            ),
            typer.echo,
        )


@app.command("serve-instance", hidden=True)
def serve_instance(orders: str) -> None:
    """Run one instance as a process; started by `dynlab serve --runtime ai_dynamo`."""
    given = orders_of(orders)
    if given.dynamo_sdk:
        legacy.install()
    raise typer.Exit(run_instance(load_graph(given.service), given))


@app.command()
def status(
    discovery: Annotated[Discovery, typer.Option(help="file or etcd: where instances are listed.")] = Discovery.file,
) -> None:
    """List what is served: namespaces, components, endpoints and instances of a running discovery backend.

    \b
    dynlab status
    ETCD_ENDPOINTS=http://node1:2379 dynlab status --discovery etcd
    """
    for line in status_lines(discovery.value):
        typer.echo(line)


def _worker_count(text: str) -> tuple[str, int]:
    name, _, count = text.partition("=")
    if not name or not count.isdigit():
        raise ConfigError(f"--workers {text!r}: write Service=N, as in --workers DummyWorker=4.")
    return name, int(count)
