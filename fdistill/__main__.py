"""`python -m fdistill` is the command `fdistill`."""

from fdistill.cli import main

if __name__ == "__main__":
    main()
