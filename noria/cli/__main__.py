"""`python -m noria.cli`: the command line without an installed script."""

import sys

from noria.cli import main

sys.exit(main())
