"""What the command line is given: arguments of ``submit`` (JSON, text, numbers that begin with a dash), seconds."""

from __future__ import annotations

import difflib
import json
import math
from typing import Any

import click


class Submit(click.Command):
    """A command whose arguments may be negative numbers. What else begins with a dash is an option, or a mistake."""

    ignore_unknown_options = True
    """For the parser. What it lets pass is looked at here, or ``--retires 3`` would be two arguments."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Of what stands before ``--``, refuse what is no number; of what stands after it, tell of options."""
        after = args[args.index("--") + 1 :] if "--" in args else []
        known = sorted({option for parameter in self.get_params(ctx) for option in parameter.opts if option[0] == "-"})
        left = super().parse_args(ctx, args)
        given: tuple[str, ...] = ctx.params.get("arguments", ())
        for argument in given[: len(given) - len(after)]:
            if argument.startswith("-") and not isinstance(json_or_text(argument), (int, float)):
                name = argument.partition("=")[0]
                raise click.NoSuchOption(name, possibilities=difflib.get_close_matches(name, known), ctx=ctx)
        for argument in after:
            if argument.partition("=")[0] in known:
                click.echo(f"note: {argument} stands after --, so it is an argument of the function", err=True)
        return left


def json_or_text(argument: str) -> Any:
    """What an argument stands for."""
    try:
        return json.loads(argument)
    except ValueError:
        return argument


def seconds(_context: click.Context, parameter: click.Parameter, value: float | None) -> float | None:
    """A number of seconds, checked."""
    if value is not None and not 0 <= value < math.inf:
        raise click.BadParameter(f"{value} is no number of seconds", param=parameter)
    return value
