"""Shows every setting: its variable, its value, its default and its meaning."""

from typing import Annotated, Any

import typer

from service.cli.options import AsJson
from service.cli.output import print_json, show, table


def config(
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Write the table that the README shows, no values.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show every setting, what it is set to here and what it means; secrets stay hidden."""
    from service.cli.variables import describe_relations, describe_settings

    if markdown:
        show(settings_table())
        return
    described = describe_settings()
    if as_json:
        print_json({"settings": described, "relations": describe_relations()})
        return
    rows = [
        ("*" if each["isSet"] else "", each["variables"][0], _text(each["value"]), each["meaning"])
        for each in described
    ]
    show(table([("", "VARIABLE", "VALUE", "MEANING"), *rows]))
    show("\n* set here; all others have their default\n")
    show("\n".join(describe_relations()))


def settings_table() -> str:
    """Return all settings as a Markdown table."""
    from service.cli.variables import describe_fields

    lines = ["| Variable | Default | Allowed | Meaning |", "|---|---|---|---|"]
    for each in describe_fields():
        names = ", ".join(f"`{name}`" for name in each["variables"])
        default = f"`{_text(each['default'])}`" if each["default"] not in (None, []) else ""
        lines.append(f"| {names} | {default} | {each['allowed']} | {each['meaning']} |")
    return "\n".join(lines)


def _text(value: Any) -> str:
    match value:
        case None | []:
            return "-"
        case bool():
            return str(value).lower()
        case float():
            return f"{value:g}"
        case list():
            return ",".join(map(str, value))
        case _:
            return str(value)
