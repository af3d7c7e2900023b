"""What the Python clients' load programs share: the arguments, the pace, and what became of each record.
It knows no Kafka library. What is printed is described in tests/clients/README.md."""

import argparse
import time

from program import Program, now_ms

DRAIN_TIME_MAX_S = 20
WARM_AGAIN_S = 0.2
VALUE_BYTES = 100


class Load(Program):
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
        self.sent = 0
        self.errors = 0
        self._first = 0  # The first record behind the warm-up.
        self._start = None  # When that is due; before it, every record is due at once.
        self._due = {}
        self._warm = set()
        super().__init__("acks")
        self.print(client=client, version=version)

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
            self.print(ready=True)
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
        at = now_ms()
        if error is not None:
            self.errors += 1
            self.print(error=str(error) or type(error).__name__, n=n, at=at)
            return
        partition = n % self.keys % self.partitions
        self._warm.add(partition)
        self.add(n, partition, round((time.monotonic() - due) * 1000, 3), at)

    def drain(self, between):
        """Waits for what is outstanding, and ends the program; a library's own way of closing may wait for brokers that are gone."""
        until = time.monotonic() + DRAIN_TIME_MAX_S
        while self._due and time.monotonic() < until:
            between()
        self.finish()

    @property
    def drained(self):
        return not self._due

    def finish(self):
        self.end(0, lambda: {"done": True, "sent": self.sent, "acked": self.printed, "errors": self.errors})
