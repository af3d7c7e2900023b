"""A member of a group under load with librdkafka, through confluent-kafka, with its defaults: an eager range assignor, 45 s of session,
commits every 5 s of what poll() has returned."""

import threading

import confluent_kafka

from consume import CLOSE_TIME_MAX_S, PAUSE_AFTER_ERROR_S, POLL_MAX_S, Consume

program = Consume("librdkafka", confluent_kafka.libversion()[0])


def numbers(partitions):
    return [p.partition for p in partitions]


def consume():
    try:
        consumer = confluent_kafka.Consumer(
            {
                "bootstrap.servers": program.bootstrap,
                "client.id": program.client_id,
                "group.id": program.group,
                "auto.offset.reset": "earliest",
            }
        )
        # With an eager assignor it is told all its partitions each time; its generation it does not tell.
        consumer.subscribe(
            [program.topic],
            on_assign=lambda consumer, partitions: program.assigned(numbers(partitions), consumer.memberid(), None),
            on_revoke=lambda _, partitions: program.revoked(numbers(partitions)),
            on_lost=lambda _, partitions: program.lost(numbers(partitions)),
        )
    except Exception as error:
        program.error(error)
        program.finish(1, closed=True)
    while not program.stopping.is_set():
        fatal = poll(consumer)
        if fatal:
            program.finish(1, closed=False)
    consumer.close()


def poll(consumer):
    """Takes one message; whether the consumer has ended for good."""
    try:
        message = consumer.poll(POLL_MAX_S)
    except confluent_kafka.KafkaException as error:
        failure = error.args[0]
    else:
        if message is None:
            return False
        failure = message.error()
        if failure is None:
            program.record(message.value(), message.partition(), message.offset())
            return False
    program.error(failure)
    program.stopping.wait(PAUSE_AFTER_ERROR_S)
    return failure.fatal()


consuming = threading.Thread(target=consume, daemon=True)
consuming.start()
program.stopping.wait()
consuming.join(CLOSE_TIME_MAX_S)
program.finish(0, closed=not consuming.is_alive())
