"""`gateway models`: what a running gateway serves, from its admin API."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from gateway.cli import root

models_app = typer.Typer(help="The models of a running gateway.", no_args_is_help=True)
root.app.add_typer(models_app, name="models")

AdminUrl = Annotated[
    str | None, typer.Option("--admin-url", help="Default: GATEWAY_ADMIN_URL, else from the configuration.")
]


@models_app.command("list")
def list_models(admin_url: AdminUrl = None, as_json: root.AsJson = False) -> None:
    """List models, versions and their states."""
    from gateway.cli import client

    answer = client.call(client.admin_url(admin_url), "/admin/v1/models")
    if as_json:
        root.print_json(answer)
        return
    root.print_table(["MODEL", "VERSION", "STATE", "REASON"], rows(answer))


def rows(answer: Any) -> list[tuple[str, str, str, str]]:
    """Return (model, version, state, reason) of every version in the admin API's answer."""
    return [
        (model["name"], version["version"], version["state"], version.get("reason", ""))
        for model in answer["models"]
        for version in model["versions"]
    ]
