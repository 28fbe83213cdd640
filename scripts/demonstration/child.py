"""Processes that the demo starts and ends."""

import ctypes
import json
import select
import signal
import subprocess

from demonstration.places import LOGS, ROOT

STOP_WITHIN = 45
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)


class Failed(Exception):
    """What went wrong, for people."""


class Child:
    """A process that gets only the signals we send, and `ending` when we die."""

    def __init__(self, name, *command, env=None, pipe=True, ending=signal.SIGTERM):
        self.name = name
        self.ending = ending
        self.log = LOGS / f"{name}.log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [str(part) for part in command],
                cwd=ROOT,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if pipe else None,
                stderr=log if pipe else None,
                start_new_session=True,
                preexec_fn=lambda: LIBC.prctl(PR_SET_PDEATHSIG, ending),
            )

    def ready(self, within):
        """The JSON line that says where it is."""
        readable, _, _ = select.select([self.process.stdout], [], [], within)
        line = self.process.stdout.readline() if readable else b""
        if not line:
            told = self.log.read_text(errors="replace").strip()[-2000:]
            raise Failed(f"{self.name} did not start:\n{told or f'no word within {within} s'}")
        return json.loads(line)

    def stop(self):
        """Ends it in order, else at once. True when it ended well."""
        if self.process.poll() is None:
            self.process.send_signal(self.ending)
        try:
            return self.process.wait(STOP_WITHIN) == 0
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return False
