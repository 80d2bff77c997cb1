"""``agentpipe schema``: the JSON Schema of the events."""

import dataclasses

import click

from agentpipe.payload import PAYLOADS, event_schema
from agentpipe.stage import option
from agentpipe_cli.options import command

__all__ = ["SchemaOptions", "schema"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SchemaOptions:
    """How to print it."""

    list: bool = option(False, "Print the names of the types instead.")


@command(
    "schema",
    SchemaOptions,
    summary="Print the JSON Schema of the events.",
    help="Of every type, or of TYPE alone.",
)
@click.argument("type_name", metavar="[TYPE]", required=False)
def schema(options: SchemaOptions, type_name: str | None) -> None:
    """Print the schema (2020-12) or the list of types."""
    import orjson

    if options.list:
        click.echo("\n".join(sorted(PAYLOADS)))
        return
    if type_name is not None and type_name not in PAYLOADS:
        raise click.UsageError(f"{type_name!r} is not a type; see agentpipe schema --list")
    click.echo(orjson.dumps(event_schema(type_name), option=orjson.OPT_INDENT_2).decode())
