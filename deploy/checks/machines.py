"""The systemd units."""

import shutil
import tempfile
from pathlib import Path


def systemd(tools):
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        for unit in (tools.deploy / "systemd").glob("reseal.*"):
            # The binary is not installed here.
            text = unit.read_text().replace("/usr/local/bin/reseal", shutil.which("true"))
            (folder / unit.name).write_text(text)
        service, socket = folder / "reseal.service", folder / "reseal.socket"
        return tools.faults(
            tools.run("systemd-analyze", "verify", service, socket),
            # Exposure at most 1.5 of 10.
            tools.run("systemd-analyze", "security", "--offline=true", "--threshold=15", "--no-pager", service),
        ) + order_of_times(tools)


def order_of_times(tools):
    """The unit must give the authority the time that it takes by default."""
    text = (tools.deploy / "systemd/reseal.service").read_text()
    stop = next(int(line.split("=")[1]) for line in text.splitlines() if line.startswith("TimeoutStopSec="))
    server = tools.schema()["$defs"]["ServerConfig"]["properties"]
    takes = sum(seconds(server[key]["default"]) for key in ("drain_time", "shutdown_timeout") if key in server)
    return [] if stop > takes else [f"TimeoutStopSec={stop} is not above drain_time + shutdown_timeout ({takes} s)"]


def seconds(text):
    """A length of time as the configuration has it."""
    return int(text[:-1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[text[-1]]
