"""A member of a group under load with aiokafka, with its defaults: an eager round-robin assignor, 10 s of session, commits every 5 s
of what the iterator has returned."""

import asyncio

import aiokafka
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener

from consume import CLOSE_TIME_MAX_S, PAUSE_AFTER_ERROR_S, Consume

WATCH_EVERY_S = 0.02


class Assignment(ConsumerRebalanceListener):
    """Its assignors are eager: it is told all its partitions each time."""

    def __init__(self, program, consumer):
        self.program = program
        self.consumer = consumer

    def on_partitions_assigned(self, assigned):
        # The library has no other way of telling them.
        coordinator = self.consumer._coordinator
        self.program.assigned([p.partition for p in assigned], coordinator.member_id, coordinator.generation)

    def on_partitions_revoked(self, revoked):
        self.program.revoked([p.partition for p in revoked])


async def consume(program, consumer):
    while True:
        try:
            async for record in consumer:
                program.record(record.value, record.partition, record.offset)
            return  # Only a consumer that has ended ends the iteration.
        except Exception as error:
            program.error(repr(error))
            await asyncio.sleep(PAUSE_AFTER_ERROR_S)


async def main():
    program = Consume("aiokafka", aiokafka.__version__)
    consumer = AIOKafkaConsumer(
        bootstrap_servers=program.bootstrap, client_id=program.client_id, group_id=program.group, auto_offset_reset="earliest"
    )
    consumer.subscribe([program.topic], listener=Assignment(program, consumer))
    starting = asyncio.create_task(consumer.start())
    consuming = None
    while not program.stopping.is_set():
        await asyncio.sleep(WATCH_EVERY_S)
        if starting.done() and consuming is None:
            if starting.exception():
                program.error(repr(starting.exception()))
                program.finish(1, closed=True)
            consuming = asyncio.create_task(consume(program, consumer))
        if consuming is not None and consuming.done():
            program.error("the iteration over the consumer ended")
            program.finish(1, closed=True)
    # An application closes the consumer when it has left the loop: what comes in between would not be committed.
    if consuming is not None:
        consuming.cancel()
    try:
        await asyncio.wait_for(consumer.stop(), CLOSE_TIME_MAX_S)
        program.finish(0, closed=True)
    except asyncio.TimeoutError:
        program.finish(0, closed=False)


asyncio.run(main())
