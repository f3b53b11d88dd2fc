"""A plugin of the test runs: names what failed when it fails, and says at the end which modules took the time.

A run that is cut by its limit has then said what it knew.
"""

import collections

_seconds = collections.Counter()


def pytest_runtest_logreport(report):
    # With workers, this is called where the results come together; a worker's own output goes nowhere.
    _seconds[report.nodeid.split("::")[0]] += report.duration
    if report.failed:
        crash = getattr(report.longrepr, "reprcrash", None)
        print(f"\nFAILED {report.nodeid} ({report.when}, {report.duration:.0f} s): {crash.message if crash else ''}", flush=True)


def pytest_terminal_summary(terminalreporter):
    terminalreporter.section("the modules that took longest, in seconds of a worker")
    for module, seconds in _seconds.most_common(15):
        terminalreporter.write_line(f"{seconds:6.0f} {module}")
