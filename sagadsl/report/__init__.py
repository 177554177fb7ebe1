"""What is shown of runs: pure functions from `RunInfo` to text. They read nothing and decide nothing."""

from sagadsl.report.text import age, run_line, run_text, short_id

__all__ = ["age", "run_line", "run_text", "short_id"]
