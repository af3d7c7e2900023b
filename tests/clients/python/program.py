"""What the Python clients' programs share that run until they are told to stop: the lines that they print, in batches, and their end.
It knows no Kafka library. What is printed is described in tests/clients/README.md."""

import collections
import json
import os
import sys
import threading
import time

RUN_TIME_MAX_S = 300
PRINT_EVERY_S = 0.05


def now_ms():
    return round(time.time() * 1000, 3)


class Program:
    def __init__(self, batch_name):
        """It prints batches by that name from now on, and ends itself after 300 s."""
        self.stopping = threading.Event()
        self.printed = 0  # Entries of batches.
        self._batch_name = batch_name
        self._batch = collections.deque()  # Appended to in the library's callbacks, emptied by whoever prints.
        self._printing = threading.RLock()
        overdue = threading.Timer(RUN_TIME_MAX_S, self.die, ["not stopped after 300 s"])
        overdue.daemon = True
        overdue.start()
        threading.Thread(target=self._await_stop, daemon=True).start()
        threading.Thread(target=self._keep_printing, daemon=True).start()

    def add(self, *entry):
        """Adds one entry to the batch."""
        self._batch.append(entry)

    def print(self, **line):
        """Prints a line behind the batch so far."""
        with self._printing:
            self._flush()
            self._write(line)

    def end(self, status, last_line):
        """Ends the program at once; a library's own way of closing may wait for brokers that are gone. The last line is asked for when
        everything else is printed."""
        self._printing.acquire()  # For good: nothing is printed behind the last line.
        self._flush()
        self._write(last_line())
        os._exit(status)

    def die(self, why):
        self._printing.acquire()
        self._flush()
        print(why, file=sys.stderr, flush=True)
        os._exit(1)

    def _await_stop(self):
        for line in sys.stdin:
            if line.strip() == "stop":
                break
        self.stopping.set()

    def _keep_printing(self):
        while True:
            time.sleep(PRINT_EVERY_S)
            with self._printing:
                self._flush()

    def _flush(self):
        batch = [self._batch.popleft() for _ in range(len(self._batch))]
        if batch:
            self._write({self._batch_name: batch})
            self.printed += len(batch)

    @staticmethod
    def _write(line):
        try:
            print(json.dumps(line, separators=(",", ":")), flush=True)
        except OSError:
            os._exit(1)  # Nobody reads any more.
