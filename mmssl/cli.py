"""The command line. Exit status: 0 done, 2 bad input or configuration (one clear sentence on stderr), 1 anything else."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any

import typer

from mmssl.files import full_disk
from mmssl.training.errors import Interrupted, RunError
from mmssl.types import InputError

COMMANDS = (
    "demo",
    "toyworld",
    "index",
    "prepare",
    "tokenizer",
    "view",
    "train",
    "tasks",
    "encoders",
    "evaluate",
    "localize",
    "track",
    "features",
    "search",
    "probe",
    "report",
    "export",
    "app",
    "bench",
    "doctor",
)


def build_app() -> typer.Typer:
    """The typer application with every command of `mmssl/commands/`."""
    app = typer.Typer(
        name="mmssl",
        help="Self-supervised learning from video, sound, text and motion: a folder of clips in, a trained model out.",
        epilog="Begin with `mmssl demo`. Each command shows an example under --help.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode="markdown",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    for name in COMMANDS:
        found = _command(name)
        if isinstance(found, typer.Typer):  # a group: `mmssl search query`
            app.add_typer(found, name=name)
        else:
            app.command(name)(found)
    return app


def main(arguments: list[str] | None = None) -> None:
    """Entry point of `mmssl`."""
    try:
        build_app()(arguments, standalone_mode=True)
    except InputError as error:
        print(f"mmssl: {error}", file=sys.stderr)
        sys.exit(2)
    except (RunError, Interrupted) as reason:  # the run itself says what happened and how to go on
        print(f"mmssl: {reason}", file=sys.stderr)
        sys.exit(1)
    except OSError as error:
        if not full_disk(error):
            raise
        where = f" ({error.filename})" if error.filename else ""
        print(
            f"mmssl: the disk is full{where}; what was there before is whole; make room, then run the command again",
            file=sys.stderr,
        )
        sys.exit(1)
    except KeyboardInterrupt:
        print("mmssl: interrupted", file=sys.stderr)
        sys.exit(1)


def _command(name: str) -> Callable[..., Any] | typer.Typer:
    return getattr(importlib.import_module(f"mmssl.commands.{name}"), name)


if __name__ == "__main__":
    main()
