"""The conformance scenario with librdkafka, through confluent-kafka."""

import logging
import re
import threading
import time

import confluent_kafka
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from report import CODECS, COMMITTED_ONLY, PARTITIONS, WAIT_MAX_S, Report, Series, check

report = Report("librdkafka", confluent_kafka.libversion()[0])
topic = report.topic


class Dialling(logging.Handler):
    """librdkafka says what it dials only in its log."""

    pattern = re.compile(r"Connecting to ipv[46]#(\S+:\d+)")

    def emit(self, record):
        found = self.pattern.search(record.getMessage())
        if found:
            report.dialled.add(found.group(1))


log = logging.getLogger("librdkafka")
log.propagate = False
log.setLevel(logging.DEBUG)
log.addHandler(Dialling())


def config(**more):
    base = {"bootstrap.servers": report.bootstrap, "client.id": report.client_id, "debug": "broker"}
    base.update({k.replace("_", "."): v for k, v in more.items()})
    return base


def consuming(group, **more):
    return Consumer(config(group_id=group, auto_offset_reset="earliest", enable_auto_commit=False, heartbeat_interval_ms=500, **more), logger=log)


def producing(**more):
    return Producer(config(**more), logger=log)


def learn(client):
    metadata = client.list_topics(timeout=10)
    report.told.update(f"{b.host}:{b.port}" for b in metadata.brokers.values())
    return metadata


def step(name, f):
    try:
        report.passed(name, f())
        return True
    except Exception as error:
        report.broken(name, error)
        return False


def eventually(what, holds, between=lambda: time.sleep(0.02)):
    until = time.monotonic() + WAIT_MAX_S
    while not holds():
        check(time.monotonic() < until, f"never seen: {what}")
        between()


def create_topic(admin):
    admin.create_topics([NewTopic(topic, PARTITIONS, 3)])[topic].result(30)
    eventually("the new topic in metadata", lambda: topic in admin.list_topics(timeout=10).topics)


def produce(client, records, **more):
    errors = []
    for partition, value in records:
        client.produce(topic, value, partition=partition, on_delivery=lambda e, _: e and errors.append(e), **more)
        client.poll(0)
    left = client.flush(WAIT_MAX_S)
    check(not errors and left == 0, f"{errors[:1]}, {left} left")


def read_from(offsets, seen, done, **more):
    consumer = consuming(topic + "-reader", **more)
    consumer.assign(offsets)

    def poll():
        message = consumer.poll(0.2)
        if message is not None and message.error() is None:
            seen(message)

    eventually("all records", done, poll)
    learn(consumer)
    consumer.close()


def produce_and_read_back():
    series = Series()
    for codec in CODECS:
        for idempotent in (False, True):
            tag = f"produce_{codec}" + ("_idempotent" if idempotent else "")
            client = producing(compression_type=codec, enable_idempotence=idempotent, acks="all", linger_ms=5)
            try:
                produce(client, Series.values(tag))
                series.produced(tag)
            except Exception as error:
                series.produced(tag, error)
            learn(client)
    try:
        start = [TopicPartition(topic, p, 0) for p in range(PARTITIONS)]
        read_from(start, lambda m: series.seen(m.partition(), m.value()), lambda: series.missing <= 0)
    except AssertionError:
        pass  # The series says what is missing.
    series.report(report)


class Member:
    """One consumer of a group that keeps polling and knows what it is assigned."""

    def __init__(self, group):
        self.count = 0
        self.leaving = False
        self.thread = threading.Thread(target=self.run, args=(group,), daemon=True)
        self.thread.start()

    def run(self, group):
        consumer = consuming(group)

        def assigned(_, ps):
            self.count = len(ps)

        def revoked(*_):
            self.count = 0

        consumer.subscribe([topic], on_assign=assigned, on_revoke=revoked, on_lost=revoked)
        while not self.leaving:
            consumer.poll(0.1)
        consumer.close()

    def leave(self):
        self.leaving = True
        self.thread.join(WAIT_MAX_S)


def group_rebalance():
    group = topic + "-rebalance"
    a = Member(group)
    try:
        eventually("all partitions at the only member", lambda: a.count == PARTITIONS)
        b = Member(group)
        try:
            eventually("half the partitions at each of two members", lambda: a.count == b.count == PARTITIONS // 2)
        finally:
            b.leave()
        eventually("all partitions back at the first member", lambda: a.count == PARTITIONS)
    finally:
        a.leave()
    return "6, 3+3, 6"


def commit_resume():
    group = topic + "-commit"
    consumer = consuming(group)
    consumer.subscribe([topic])
    eventually("all partitions assigned", lambda: len(consumer.assignment()) == PARTITIONS, lambda: consumer.poll(0.2))
    consumer.commit(offsets=[TopicPartition(topic, p, p + 3) for p in range(PARTITIONS)], asynchronous=False)
    consumer.close()

    first = {}
    consumer = consuming(group)
    consumer.subscribe([topic])

    def poll():
        message = consumer.poll(0.2)
        if message is not None and message.error() is None:
            first.setdefault(message.partition(), message.offset())

    eventually("a record of each partition", lambda: len(first) == PARTITIONS, poll)
    consumer.close()
    check(first == {p: p + 3 for p in range(PARTITIONS)}, f"committed at partition + 3, resumed at {first}")


def seek_by_time():
    start_ms = int(time.time() * 1000) + 60_000
    client = producing()
    for i in range(3):
        produce(client, [(1, f"timed-{i}".encode())], timestamp=start_ms + i * 1000)
    consumer = consuming(topic + "-time")
    found = consumer.offsets_for_times([TopicPartition(topic, 1, start_ms + 500)], timeout=30)[0]
    consumer.close()
    values = []
    read_from([found], lambda m: values.append(m.value()), lambda: values)
    check(values[0] == b"timed-1", f"the first record at {found.offset} is {values[0]}")


def transaction():
    consumer = consuming(topic + "-ends")
    ends = [TopicPartition(topic, p, consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=30)[1]) for p in range(PARTITIONS)]
    consumer.close()
    client = producing(transactional_id=topic + "-txn")
    client.init_transactions(30)
    for value in ("committed", "aborted", "committed-2"):
        client.begin_transaction()
        produce(client, [(i % PARTITIONS, value.encode()) for i in range(12)])
        if value == "aborted":
            client.abort_transaction(30)
        else:
            client.commit_transaction(30)
    seen = {}

    def count(message):
        value = message.value().decode()
        seen[value] = seen.get(value, 0) + 1

    read_from(ends, count, lambda: seen.get("committed-2", 0) >= 12, isolation_level="read_committed")
    check(seen == COMMITTED_ONLY, f"a read_committed consumer saw {seen}")
    return "24 committed seen, 12 aborted not"


def list_groups(admin):
    groups = [g.group_id for g in admin.list_consumer_groups(request_timeout=30).result().valid]
    check(topic + "-commit" in groups, f"{topic}-commit is not among {groups}")
    return f"{len(groups)} groups"


def describe_cluster(admin):
    cluster = admin.describe_cluster(request_timeout=30).result()
    report.told.update(f"{n.host}:{n.port}" for n in cluster.nodes)
    check(len(cluster.nodes) >= 3 and cluster.controller is not None, f"brokers {cluster.nodes}, controller {cluster.controller}")
    return f"{len(cluster.nodes)} brokers"


def delete_topic(admin):
    admin.delete_topics([topic])[topic].result(30)
    eventually("metadata without the topic", lambda: topic not in admin.list_topics(timeout=10).topics)


admin = AdminClient(config(), logger=log)
if step("create_topic", lambda: create_topic(admin)):
    produce_and_read_back()
    step("group_rebalance", group_rebalance)
    step("commit_resume", commit_resume)
    step("seek_by_time", seek_by_time)
    step("transaction", transaction)
    step("list_groups", lambda: list_groups(admin))
    step("describe_cluster", lambda: describe_cluster(admin))
    step("delete_topic", lambda: delete_topic(admin))
report.finish()
