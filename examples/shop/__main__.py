"""The command line of the shop."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from pathlib import Path
from typing import Final, NoReturn

import click
import httpx

from examples.shop.controls import PARTS, STANDS_STILL_S
from examples.shop.settings import Settings

LOOK_S: Final = 0.2
ENGINE: Final = click.option(
    "--engine",
    type=click.Choice(["embedded", "postgres"]),
    default="embedded",
    show_default=True,
    help="Where rows are: in files, or on PostgreSQL, with Valkey as the cache and the queue. Servers are started for this.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """A small shop at two sites, to see what comes between a user and their own writes."""


@main.command()
@ENGINE
@click.option(
    "--port", default=8000, show_default=True, help="Of the site eu; us is at the next. 0: any that are free."
)
@click.option("--lag", default=2.0, show_default=True, help="How long replicas lag at first, in seconds.")
@click.option("--without", multiple=True, type=click.Choice(list(PARTS)), help="Leave a part out. May be given again.")
@click.option("--control", is_flag=True, help="Leave all of these parts out.")
def run(engine: str, port: int, lag: float, without: tuple[str, ...], control: bool) -> None:
    """Run the shop until Ctrl-C."""
    from examples.shop.run.supervisor import Ended, Running

    signal.signal(signal.SIGTERM, _ended)
    click.echo("Opening the shop ...")
    try:
        with Running(engine, port=port, without=PARTS if control else without) as shop:
            shop.controls.change(lag_s=lag)
            for site, url in shop.settings.sites.items():
                click.echo(f"  {site}  {url}")
            click.echo("Ctrl-C ends it. Everything that you did in it is gone then.")
            with contextlib.suppress(KeyboardInterrupt):
                while True:
                    shop.check()
                    shop.follow()
                    time.sleep(LOOK_S)
            click.echo(" Closing the shop ...")
    except KeyboardInterrupt:
        click.echo(" The shop does not open.")
    except Ended as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        raise click.ClickException(f"{error.strerror}: --port {port} chooses where the shop is") from error


@main.command()
@ENGINE
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, for programs.")
def check(engine: str, as_json: bool) -> None:
    """Try everything, as it is and with each part left out. The exit code is 0 if all is as it should be."""
    from examples.shop.check.table import report

    signal.signal(signal.SIGTERM, _ended)
    sys.exit(report(engine, as_json=as_json))


@main.command()
@click.argument("seconds", type=click.FloatRange(0, STANDS_STILL_S))
@click.option("--url", default="http://127.0.0.1:8000", show_default=True, help="Of one of the sites.")
def lag(seconds: float, url: str) -> None:
    """Let the replicas of a shop that runs lag so many seconds from now on."""
    try:
        response = httpx.post(f"{url}/lag", data={"seconds": seconds})
        if not response.is_redirect:
            response.raise_for_status()
    except httpx.HTTPError as error:
        raise click.ClickException(f"no shop at {url}: {error}") from error


@main.command(hidden=True)
@click.argument("name")
@click.option("--dir", "directory", type=click.Path(path_type=Path), required=True)
@click.option("--fd", type=int, default=-1)
def process(name: str, directory: Path, fd: int) -> None:
    """Be one of the shop's processes."""
    from examples.shop.run import processes

    settings = Settings.load(directory)
    processes.end_with_parent()
    if name in settings.sites:
        processes.site(settings, name, fd)
    elif name == "orders":
        processes.orders(settings, fd)
    elif name == "worker":
        processes.worker(settings)
    elif name == "indexer":
        processes.indexer(settings)
    else:
        raise click.ClickException(f"there is no process {name}")


def _ended(*_: object) -> NoReturn:
    """Leave as after Ctrl-C: what was started is ended."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    main(prog_name="python -m examples.shop")
