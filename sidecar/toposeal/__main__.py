"""`python -Im toposeal`: the command without its wrapper script."""

from toposeal.cli.main import entry

if __name__ == "__main__":
    raise SystemExit(entry())
