"""A producing load with librdkafka, through confluent-kafka: its defaults, which are acks=all, no idempotence, 5 ms of linger
and five minutes for a record to be delivered."""

import confluent_kafka

from load import Load

POLL_MAX_S = 0.05
DRAIN_POLL_S = 0.01

load = Load("librdkafka", confluent_kafka.libversion()[0])
producer = confluent_kafka.Producer(
    {"bootstrap.servers": load.bootstrap, "client.id": load.client_id, "acks": "all", **load.idempotence_as("enable.idempotence")}
)


def send():
    n, partition, key, value = load.next()
    try:
        producer.produce(load.topic, value, key, partition, on_delivery=lambda error, _: load.done(n, error))
    except (confluent_kafka.KafkaException, BufferError) as error:
        load.done(n, error)


while not load.stopping.is_set():
    wait_s = load.wait_s()
    if wait_s is not None and wait_s <= 0:
        send()
        producer.poll(0)
    else:
        producer.poll(POLL_MAX_S if wait_s is None else min(wait_s, POLL_MAX_S))
load.drain(lambda: producer.poll(DRAIN_POLL_S))
