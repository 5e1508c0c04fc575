"""`python -m service` is `usa`."""

from service.cli import main

main()
