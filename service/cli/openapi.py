"""Prints the description of the API, without a service."""


def openapi() -> None:
    """Print the OpenAPI description of the API that this version serves."""
    from service import __version__
    from service.api.openapi import describe
    from service.api.routes import ROUTES
    from service.cli.output import print_json

    print_json(describe(ROUTES, __version__))
