"""``python -m nemo_cosmos`` is the ``nemo-cosmos`` command."""

from nemo_cosmos.cli.main import main

if __name__ == "__main__":
    main()
