"""``python -m sagadsl``: the command line."""

from sagadsl.cli import main

if __name__ == "__main__":
    main()
