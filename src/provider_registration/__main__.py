"""`python -m provider_registration` is the command line."""

from provider_registration.cli import main

if __name__ == "__main__":
    main()
