"""``python -m sagadsl.examples.research``."""

import sys

try:
    from sagadsl.examples.research.demo import main
except ModuleNotFoundError as missing:
    sys.exit(f"{missing}; what this example needs comes with: pip install 'sagadsl[llm]'")
sys.exit(main())
