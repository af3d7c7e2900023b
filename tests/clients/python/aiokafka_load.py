"""A producing load with aiokafka: its defaults (no idempotence, no linger, 40 s for a request and its retries), but for acks, where its
default is 1."""

import asyncio
import time

import aiokafka
from aiokafka import AIOKafkaProducer

from load import DRAIN_TIME_MAX_S, Load

SLEEP_MAX_S = 0.05
DRAIN_POLL_S = 0.01


async def main():
    load = Load("aiokafka", aiokafka.__version__)
    producer = AIOKafkaProducer(
        bootstrap_servers=load.bootstrap, client_id=load.client_id, acks="all", **load.idempotence_as("enable_idempotence")
    )
    try:
        await producer.start()
    except Exception as error:
        load.die(repr(error))
    driving = asyncio.create_task(drive(load, producer))
    while not load.stopping.is_set():
        await asyncio.sleep(SLEEP_MAX_S)
        if driving.done() and driving.exception():
            load.die(repr(driving.exception()))
    until = time.monotonic() + DRAIN_TIME_MAX_S
    while not load.drained and time.monotonic() < until:
        await asyncio.sleep(DRAIN_POLL_S)
    load.finish()


async def drive(load, producer):
    while not load.stopping.is_set():
        wait_s = load.wait_s()
        if wait_s is not None and wait_s <= 0:
            await send(load, producer)
        else:
            await asyncio.sleep(SLEEP_MAX_S if wait_s is None else min(wait_s, SLEEP_MAX_S))


async def send(load, producer):
    n, partition, key, value = load.next()
    try:
        # One after the other, as the order demands: it waits where the partition's buffer is full.
        sent = await producer.send(load.topic, value, key, partition)
    except Exception as error:
        load.done(n, repr(error))
        return
    sent.add_done_callback(lambda sent: load.done(n, None if sent.exception() is None else repr(sent.exception())))


asyncio.run(main())
