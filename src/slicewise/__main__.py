"""`python -m slicewise` is the `slicewise` command."""

from slicewise.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
