import pytest


def pytest_addoption(parser):
    parser.addoption(
        "--only-gpu-skips", action="store_true", help="fail the run if a test other than a GPU test was skipped"
    )


class OnlyGpuSkips:
    """Counts skipped tests that do not bear the `gpu` marker and fails the session if there are any."""

    def __init__(self):
        self.skipped = []

    def pytest_runtest_logreport(self, report):
        if report.skipped and not hasattr(report, "wasxfail") and "gpu" not in report.keywords:
            self.skipped.append(report.nodeid)

    def pytest_collectreport(self, report):
        if report.skipped:
            self.skipped.append(report.nodeid)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session):
        if self.skipped and session.exitstatus == 0:
            session.exitstatus = 1

    def pytest_terminal_summary(self, terminalreporter):
        if self.skipped:
            terminalreporter.section("skipped, but only GPU tests may be")
            terminalreporter.write_line("\n".join(self.skipped))


def pytest_configure(config):
    if config.getoption("--only-gpu-skips") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(OnlyGpuSkips(), "only-gpu-skips")
