"""A Jupyter kernel, driven as a front end does: cells are run, and messages belong to the cell that they name."""

import time
from collections import defaultdict

from jupyter_client.manager import start_new_kernel

START_SECONDS = 30
CELL_SECONDS = 20


class Kernel:
    def __init__(self):
        self.manager, self.client = start_new_kernel(startup_timeout=START_SECONDS)
        self.messages = defaultdict(list)

    def run(self, code):
        """Run a cell to its end; its id and the answer."""
        cell = self.start(code)
        return cell, self.finish(cell)

    def start(self, code):
        return self.client.execute(code)

    def finish(self, cell):
        """Wait until a cell has ended; the answer to it."""
        self.read_until(lambda: self.state_of(cell) == "idle", what=f"cell {cell} ends")
        while True:
            answer = self.client.get_shell_msg(timeout=CELL_SECONDS)
            if answer["parent_header"]["msg_id"] == cell:
                return answer["content"]

    def read_until(self, condition, what=None):
        """Read messages until `condition()` is true."""
        deadline = time.monotonic() + CELL_SECONDS
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {CELL_SECONDS} s: {what}")
            try:
                message = self.client.get_iopub_msg(timeout=0.1)
            except Exception as exc:
                if type(exc).__name__ != "Empty":
                    raise
                continue
            self.messages[message["parent_header"].get("msg_id")].append(message)

    def state_of(self, cell):
        states = [m["content"]["execution_state"] for m in self.messages[cell] if m["msg_type"] == "status"]
        return states[-1] if states else None

    def shown_in(self, cell, stream="stdout"):
        """What has appeared in a cell."""
        texts = [m["content"] for m in self.messages[cell] if m["msg_type"] == "stream"]
        return "".join(text["text"] for text in texts if text["name"] == stream)

    def result_of(self, cell):
        """The value of the cell's last line, by media type."""
        (result,) = [m["content"]["data"] for m in self.messages[cell] if m["msg_type"] == "execute_result"]
        return result

    def value(self, expression):
        """The value of an expression, by its repr."""
        cell, answer = self.run(expression)
        assert answer["status"] == "ok", answer
        return eval(self.result_of(cell)["text/plain"])

    def close(self):
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)
        self.manager.cleanup_resources()
