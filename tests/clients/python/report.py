"""What the Python clients' programs share: the lines that they print, the addresses that they collect
and the numbered series of records. What is printed is described in tests/clients/README.md."""

import json
import os
import sys
import threading
import time

PARTITIONS = 6
RECORDS_PER_TAG = 60
WAIT_MAX_S = 30
SCENARIO_TIME_MAX_S = 150
CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
COMMITTED_ONLY = {"committed": 12, "committed-2": 12}


class Report:
    def __init__(self, client, version):
        if len(sys.argv) < 2:
            print("usage: PROGRAM BOOTSTRAP --out json", file=sys.stderr)
            sys.exit(2)
        self.bootstrap = sys.argv[1]
        self.client_id = f"conformance-{client}-{version}"
        self.topic = f"{self.client_id}-{time.time_ns()}"
        self.told = set()
        self.dialled = set()
        self.failed = False
        self.emit(client=client, version=version)
        overdue = threading.Timer(SCENARIO_TIME_MAX_S, self._overdue)
        overdue.daemon = True
        overdue.start()

    def _overdue(self):
        self.emit(step="deadline", ok=False, detail=f"not done after {SCENARIO_TIME_MAX_S} s")
        os._exit(1)

    @staticmethod
    def emit(**line):
        print(json.dumps(line), flush=True)

    def passed(self, name, detail=None):
        self.emit(step=name, ok=True, detail=detail or "")

    def broken(self, name, error):
        self.failed = True
        self.emit(step=name, ok=False, detail=f"{type(error).__name__}: {error}")

    def finish(self):
        self.emit(told=sorted(self.told))
        self.emit(dialled=sorted(self.dialled))
        sys.stdout.flush()
        # A library's threads must not keep the program after its verdict.
        os._exit(1 if self.failed else 0)


class Series:
    """Checks that each tag's records are read back whole and in order, partition by partition."""

    def __init__(self):
        self.tags = []
        self.failures = {}
        self.next = {}
        self.missing = 0

    @staticmethod
    def values(tag):
        for n in range(RECORDS_PER_TAG):
            yield n % PARTITIONS, f"{tag}:{n // PARTITIONS}:{'evenkeel' * 20}".encode()

    def produced(self, tag, error=None):
        self.tags.append(tag)
        if error is None:
            self.missing += RECORDS_PER_TAG
        else:
            self.failures[tag] = error

    def seen(self, partition, value):
        tag, number, _ = value.decode().split(":", 2)
        due = self.next.get((tag, partition), 0)
        if int(number) != due:
            self.failures.setdefault(tag, AssertionError(f"partition {partition}: record {number} where {due} was due"))
        self.next[tag, partition] = due + 1
        self.missing -= 1

    def report(self, report):
        for tag in self.tags:
            for p in range(PARTITIONS):
                n = self.next.get((tag, p), 0)
                if n != RECORDS_PER_TAG // PARTITIONS:
                    self.failures.setdefault(tag, AssertionError(f"partition {p}: {n} of {RECORDS_PER_TAG // PARTITIONS} records read back"))
            if tag in self.failures:
                report.broken(tag, self.failures[tag])
            else:
                report.passed(tag, f"{RECORDS_PER_TAG} records")


def check(holds, what):
    """An assertion that no interpreter flag takes away."""
    if not holds:
        raise AssertionError(what)
