"""``python -m nemo_cosmos`` is the ``nemo-cosmos`` command."""

import sys

if __name__ == "__main__":
    try:
        from nemo_cosmos.cli.main import main
    except KeyboardInterrupt:  # pressed before there is anything that could say so
        sys.exit(130)
    main()
