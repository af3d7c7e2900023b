"""The conformance scenario with aiokafka."""

import asyncio
import time

import aiokafka
import aiokafka.client
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from report import CODECS, COMMITTED_ONLY, PARTITIONS, WAIT_MAX_S, Report, Series, check

report = Report("aiokafka", aiokafka.__version__)
topic = report.topic
partitions = [TopicPartition(topic, p) for p in range(PARTITIONS)]
base = {"bootstrap_servers": report.bootstrap, "client_id": report.client_id}

create_conn = aiokafka.client.create_conn


async def create_conn_noted(host, port, **more):
    report.dialled.add(f"{host}:{port}")
    return await create_conn(host, port, **more)


aiokafka.client.create_conn = create_conn_noted


def learn(client):
    report.told.update(f"{b.host}:{b.port}" for b in client.cluster.brokers() if b.nodeId != "bootstrap")


def consuming(*topics, **more):
    return AIOKafkaConsumer(*topics, **base, **{"auto_offset_reset": "earliest", "enable_auto_commit": False, "heartbeat_interval_ms": 500, **more})


async def step(name, f):
    try:
        report.passed(name, await f())
        return True
    except Exception as error:
        report.broken(name, error)
        return False


async def eventually(what, holds):
    until = time.monotonic() + WAIT_MAX_S
    while not await holds():
        check(time.monotonic() < until, f"never seen: {what}")
        await asyncio.sleep(0.02)


async def create_topic(admin):
    response = await admin.create_topics([NewTopic(topic, PARTITIONS, 3)])
    check(all(error[1] == 0 for error in response.topic_errors), str(response))

    async def listed():
        return topic in await admin.list_topics()

    await eventually("the new topic in metadata", listed)


async def read_from(offsets, seen, done, **more):
    async with consuming(**more) as consumer:
        consumer.assign(list(offsets))
        for partition, offset in offsets.items():
            consumer.seek(partition, offset)
        until = time.monotonic() + WAIT_MAX_S
        while not done():
            check(time.monotonic() < until, "never seen: all records")
            for records in (await consumer.getmany(timeout_ms=200)).values():
                for record in records:
                    seen(record)
        learn(consumer._client)


async def produce_and_read_back():
    series = Series()
    for codec in CODECS:
        for idempotent in (False, True):
            tag = f"produce_{codec}" + ("_idempotent" if idempotent else "")
            try:
                compression = None if codec == "none" else codec
                async with AIOKafkaProducer(**base, compression_type=compression, enable_idempotence=idempotent, acks="all", linger_ms=5) as client:
                    sent = [await client.send(topic, value, partition=p) for p, value in Series.values(tag)]
                    await asyncio.wait_for(asyncio.gather(*sent), WAIT_MAX_S)
                    learn(client.client)
                series.produced(tag)
            except Exception as error:
                series.produced(tag, error)
    try:
        await read_from(dict.fromkeys(partitions, 0), lambda r: series.seen(r.partition, r.value), lambda: series.missing <= 0)
    except AssertionError:
        pass  # The series says what is missing.
    series.report(report)


class Member(ConsumerRebalanceListener):
    """One consumer of a group that knows what it is assigned; it heartbeats without being polled."""

    def __init__(self, group):
        self.count = 0
        self.consumer = consuming(group_id=group)

    async def on_partitions_assigned(self, assigned):
        self.count = len(assigned)

    async def on_partitions_revoked(self, revoked):
        self.count = 0

    async def __aenter__(self):
        self.consumer.subscribe([topic], listener=self)
        await self.consumer.start()
        return self

    async def __aexit__(self, *_):
        await self.consumer.stop()


async def group_rebalance():
    group = topic + "-rebalance"
    async with Member(group) as a:
        async def all_at_a():
            return a.count == PARTITIONS

        await eventually("all partitions at the only member", all_at_a)
        async with Member(group) as b:
            async def halves():
                return a.count == b.count == PARTITIONS // 2

            await eventually("half the partitions at each of two members", halves)
        await eventually("all partitions back at the first member", all_at_a)
    return "6, 3+3, 6"


async def commit_resume():
    group = topic + "-commit"
    async with consuming(topic, group_id=group) as consumer:
        async def assigned():
            return len(consumer.assignment()) == PARTITIONS

        await eventually("all partitions assigned", assigned)
        await consumer.commit({p: p.partition + 3 for p in partitions})
    first = {}
    async with consuming(topic, group_id=group) as consumer:
        until = time.monotonic() + WAIT_MAX_S
        while len(first) < PARTITIONS:
            check(time.monotonic() < until, f"records of some partitions only: {first}")
            for p, records in (await consumer.getmany(timeout_ms=200)).items():
                first.setdefault(p.partition, records[0].offset)
    check(first == {p: p + 3 for p in range(PARTITIONS)}, f"committed at partition + 3, resumed at {first}")


async def seek_by_time():
    start_ms = int(time.time() * 1000) + 60_000
    async with AIOKafkaProducer(**base) as client:
        sent = [await client.send_and_wait(topic, b"timed", partition=1, timestamp_ms=start_ms + i * 1000) for i in range(3)]
    async with consuming() as consumer:
        found = (await consumer.offsets_for_times({partitions[1]: start_ms + 500}))[partitions[1]].offset
    offsets = []
    await read_from({partitions[1]: found}, lambda r: offsets.append(r.offset), lambda: offsets)
    check(found == offsets[0] == sent[1].offset, f"wanted {sent[1].offset}, found {found}, the first record is at {offsets[0]}")


async def transaction():
    async with consuming() as consumer:
        ends = await consumer.end_offsets(partitions)
    async with AIOKafkaProducer(**base, transactional_id=topic + "-txn") as client:
        for value in ("committed", "aborted", "committed-2"):
            await client.begin_transaction()
            sent = [await client.send(topic, value.encode(), partition=i % PARTITIONS) for i in range(12)]
            await asyncio.wait_for(asyncio.gather(*sent), WAIT_MAX_S)
            await (client.abort_transaction() if value == "aborted" else client.commit_transaction())
    seen = {}

    def count(record):
        value = record.value.decode()
        seen[value] = seen.get(value, 0) + 1

    await read_from(ends, count, lambda: seen.get("committed-2", 0) >= 12, isolation_level="read_committed")
    check(seen == COMMITTED_ONLY, f"a read_committed consumer saw {seen}")
    return "24 committed seen, 12 aborted not"


async def list_groups(admin):
    groups = [group for group, _ in await admin.list_consumer_groups()]
    check(topic + "-commit" in groups, f"{topic}-commit is not among {groups}")
    return f"{len(groups)} groups"


async def describe_cluster(admin):
    cluster = await admin.describe_cluster()
    report.told.update(f"{b['host']}:{b['port']}" for b in cluster["brokers"])
    check(len(cluster["brokers"]) >= 3 and cluster["controller_id"] is not None, str(cluster))
    return f"{len(cluster['brokers'])} brokers"


async def delete_topic(admin):
    await admin.delete_topics([topic])

    async def gone():
        return topic not in await admin.list_topics()

    await eventually("metadata without the topic", gone)


async def scenario():
    admin = AIOKafkaAdminClient(**base)
    try:
        await admin.start()
    except Exception as error:
        report.broken("create_topic", error)
        return
    if not await step("create_topic", lambda: create_topic(admin)):
        return
    await produce_and_read_back()
    await step("group_rebalance", group_rebalance)
    await step("commit_resume", commit_resume)
    await step("seek_by_time", seek_by_time)
    await step("transaction", transaction)
    await step("list_groups", lambda: list_groups(admin))
    await step("describe_cluster", lambda: describe_cluster(admin))
    await step("delete_topic", lambda: delete_topic(admin))
    await admin.close()


asyncio.run(scenario())
report.finish()
