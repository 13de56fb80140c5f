"""`python -m toposeal_lab`: the same as the `toposeal-lab` command."""

from toposeal_lab.cli import entry

if __name__ == "__main__":
    raise SystemExit(entry())
