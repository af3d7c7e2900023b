"""What the Python clients' consumer programs share: the arguments, and the lines about records, rebalances and errors.
It knows no Kafka library. What is printed is described in tests/clients/README.md."""

import argparse

from program import Program, now_ms

CLOSE_TIME_MAX_S = 20
POLL_MAX_S = 0.1
PAUSE_AFTER_ERROR_S = 0.01
ERRORS_PRINTED_MAX = 200
NUMBER_DIGITS = 11


class Consume(Program):
    def __init__(self, client, version):
        arguments = argparse.ArgumentParser()
        arguments.add_argument("bootstrap")
        arguments.add_argument("--consume", action="store_true")
        arguments.add_argument("--topic", required=True)
        arguments.add_argument("--group", required=True)
        arguments.add_argument("--member", required=True)
        arguments.add_argument("--out", choices=["json"])
        given = arguments.parse_args()
        self.bootstrap = given.bootstrap
        self.topic = given.topic
        self.group = given.group
        self.client_id = f"consume-{client}-{version}-{given.member}"
        self.errors = 0
        super().__init__("records")
        self.print(client=client, version=version, member=given.member)

    def record(self, value, partition, offset):
        """The library has delivered a record just now."""
        at = now_ms()
        number = value[:NUMBER_DIGITS] if value is not None else b""
        if len(number) == NUMBER_DIGITS and number.isdigit() and value[NUMBER_DIGITS : NUMBER_DIGITS + 1] == b" ":
            self.add(int(number), partition, offset, at)
        else:
            self.error(f"a value without a number in partition {partition} at offset {offset}")

    def assigned(self, partitions, member_id, generation):
        if not self.stopping.is_set():
            self.print(assigned=sorted(partitions), at=now_ms(), member_id=member_id, generation=generation)

    def revoked(self, partitions):
        if partitions and not self.stopping.is_set():
            self.print(revoked=sorted(partitions), at=now_ms())

    def lost(self, partitions):
        if not self.stopping.is_set():
            self.print(revoked=sorted(partitions), at=now_ms(), lost=True)

    def error(self, error):
        if self.stopping.is_set():
            return
        self.errors += 1
        if self.errors <= ERRORS_PRINTED_MAX:
            self.print(error=str(error) or type(error).__name__, at=now_ms())

    def finish(self, status, closed):
        self.end(status, lambda: {"done": True, "delivered": self.printed, "errors": self.errors, "closed": closed})
