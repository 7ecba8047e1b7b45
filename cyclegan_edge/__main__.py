"""`python -m cyclegan_edge` is `cyclegan-edge`."""

from cyclegan_edge.cli import main

if __name__ == "__main__":
    main()
