"""What the checks have in common."""

import json
import os
import pathlib
import re
import subprocess
from dataclasses import dataclass


@dataclass
class Tools:
    root: pathlib.Path
    venv: pathlib.Path
    programs: dict
    libraries: pathlib.Path

    @property
    def deploy(self):
        return self.root / "deploy"

    def run(self, program, *args, cwd=None):
        """Runs a program, five minutes at most; returns a fault with all that it said, or None."""
        path = self.programs.get(program) or str(self.venv / "bin" / program)
        folders = [self.libraries / "usr/lib/x86_64-linux-gnu", self.libraries / "usr/lib/aarch64-linux-gnu"]
        env = {**os.environ, "LD_LIBRARY_PATH": ":".join(map(str, folders))}
        words = [str(path), *map(str, args)]
        done = subprocess.run(words, cwd=cwd, env=env, capture_output=True, text=True, timeout=300, check=False)
        if done.returncode == 0:
            return None
        return f"{program} {' '.join(map(str, args))}\n{done.stdout}{done.stderr}"

    def faults(self, *runs):
        """The faults among results of `run`."""
        return [fault for fault in runs if fault]

    def schema(self):
        """The schema of the configuration file."""
        return json.loads((self.root / "docs/config.schema.json").read_text())

    def metrics(self):
        """The names of all metrics that the server has, as its source has them."""
        text = (self.root / "crates/server/src/ops/metrics.rs").read_text()
        return set(re.findall(r'"((?:reseal|process)_[a-z_]+)"', text)) | {"reseal_build_info"}
