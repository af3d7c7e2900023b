"""What the Python clients' load programs share: the arguments, the pace, the lines that they print and their end.
It knows no Kafka library. What is printed is described in tests/clients/README.md."""

import argparse
import collections
import json
import os
import sys
import threading
import time

LOAD_TIME_MAX_S = 300
DRAIN_TIME_MAX_S = 20
PRINT_EVERY_S = 0.05
WARM_AGAIN_S = 0.2
VALUE_BYTES = 100


class Load:
    def __init__(self, client, version):
        arguments = argparse.ArgumentParser()
        arguments.add_argument("bootstrap")
        arguments.add_argument("--load", action="store_true")
        arguments.add_argument("--topic", required=True)
        arguments.add_argument("--partitions", type=int, default=24)
        arguments.add_argument("--rate", type=int, default=200)
        arguments.add_argument("--keys", type=int, default=240)
        arguments.add_argument("--out", choices=["json"])
        idempotence = arguments.add_mutually_exclusive_group()
        idempotence.add_argument("--idempotent", dest="idempotence", action="store_true", default=None)
        idempotence.add_argument("--plain", dest="idempotence", action="store_false")
        given = arguments.parse_args()
        if min(given.partitions, given.rate, given.keys) < 1 or given.keys % given.partitions:
            arguments.error("rate, partitions and keys are at least 1, and keys a multiple of partitions")
        self.bootstrap = given.bootstrap
        self.topic = given.topic
        self.partitions = given.partitions
        self.rate = given.rate
        self.keys = given.keys
        self.idempotence = given.idempotence  # None: the library's default holds.
        self.client_id = f"load-{client}-{version}"
        self.stopping = threading.Event()
        self.sent = 0
        self.acked = 0
        self.errors = 0
        self._first = 0  # The first record behind the warm-up.
        self._start = None  # When that is due; before it, every record is due at once.
        self._due = {}
        self._warm = set()
        self._acks = collections.deque()  # Appended to in the library's callbacks, emptied by the printing thread.
        self._printing = threading.Lock()
        self._ending = threading.Event()
        self._print(client=client, version=version)
        overdue = threading.Timer(LOAD_TIME_MAX_S, self.die, ["not stopped after 300 s"])
        overdue.daemon = True
        overdue.start()
        threading.Thread(target=self._await_stop, daemon=True).start()
        self._printer = threading.Thread(target=self._keep_printing, daemon=True)
        self._printer.start()

    def idempotence_as(self, option):
        """The library's option, unless its default holds."""
        return {} if self.idempotence is None else {option: self.idempotence}

    def wait_s(self):
        """How long until the next record is due; 0 or less: now. None while the warm-up's records are outstanding."""
        if self._start is not None:
            return self._start + (self.sent - self._first) / self.rate - time.monotonic()
        if self.sent == 0:
            return 0
        if len(self._warm) == self.partitions:
            self._first = self.sent
            self._start = time.monotonic()
            self._print(ready=True)
            return 0
        # One record for each partition; where some were refused, another round.
        if self.sent % self.partitions:
            return 0
        if self._due:
            return None
        time.sleep(WARM_AGAIN_S)
        return 0

    def next(self):
        """The next record: its number, partition, key and value. It counts as sent."""
        n = self.sent
        key = n % self.keys
        self._due[n] = time.monotonic() if self._start is None else self._start + (n - self._first) / self.rate
        self.sent += 1
        return n, key % self.partitions, str(key).encode(), f"{n:011d} ".encode().ljust(VALUE_BYTES, b"x")

    def done(self, n, error=None):
        """Notes what became of a record; the first word counts."""
        due = self._due.pop(n, None)
        if due is None:
            return
        at = round(time.time() * 1000, 3)
        if error is not None:
            self.errors += 1
            self._print(error=str(error) or type(error).__name__, n=n, at=at)
            return
        self.acked += 1
        partition = n % self.keys % self.partitions
        self._warm.add(partition)
        self._acks.append((n, partition, round((time.monotonic() - due) * 1000, 3), at))

    def drain(self, between):
        """Waits for what is outstanding, and ends the program; a library's own way of closing may wait for brokers that are gone."""
        until = time.monotonic() + DRAIN_TIME_MAX_S
        while self._due and time.monotonic() < until:
            between()
        self.end()

    @property
    def drained(self):
        return not self._due

    def end(self):
        self._print_rest()
        self._print(done=True, sent=self.sent, acked=self.acked, errors=self.errors)
        os._exit(0)

    def die(self, why):
        self._print_rest()
        print(why, file=sys.stderr, flush=True)
        os._exit(1)

    def _print_rest(self):
        self._ending.set()
        self._printer.join()
        self._flush()

    def _await_stop(self):
        for line in sys.stdin:
            if line.strip() == "stop":
                break
        self.stopping.set()

    def _keep_printing(self):
        while not self._ending.wait(PRINT_EVERY_S):
            self._flush()

    def _flush(self):
        acks = [self._acks.popleft() for _ in range(len(self._acks))]
        if acks:
            self._print(acks=acks)

    def _print(self, **line):
        try:
            with self._printing:
                print(json.dumps(line, separators=(",", ":")), flush=True)
        except OSError:
            os._exit(1)  # Nobody reads any more.
