"""Real kills: child processes, SIGKILL, and a judge outside the library."""
