"""`python -m dynlab` is `dynlab`."""

from dynlab.cli import main

__all__ = ()

if __name__ == "__main__":
    main()
