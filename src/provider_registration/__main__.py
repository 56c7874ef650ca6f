"""Runs the command line: `python -m provider_registration`."""

from provider_registration.cli import main

if __name__ == "__main__":
    main()
