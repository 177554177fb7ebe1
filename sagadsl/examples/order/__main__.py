"""``python -m sagadsl.examples.order``."""

import sys

from sagadsl.examples.order.demo import main

sys.exit(main())
