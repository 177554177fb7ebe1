"""``demo``: the example that comes with the library, with all its own options."""

from __future__ import annotations

import click


@click.command(
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def demo(arguments: tuple[str, ...]) -> int | None:
    """Run an example: an order that is killed, resumed, and compensated."""
    from sagadsl.examples import order

    code: int | None = order.main(list(arguments))
    return code
