import java.time.Duration;
import java.util.Collection;
import java.util.Collections;
import java.util.Properties;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;

/** One consumer of a group that keeps polling and knows what it is assigned. */
final class Member implements AutoCloseable, ConsumerRebalanceListener {
    private final Set<TopicPartition> assigned = ConcurrentHashMap.newKeySet();
    private final Thread poller;
    private volatile boolean leaving;

    Member(Properties config, String topic) {
        poller = new Thread(() -> {
            try (KafkaConsumer<byte[], String> consumer = new KafkaConsumer<>(config)) {
                consumer.subscribe(Collections.singleton(topic), this);
                while (!leaving) {
                    consumer.poll(Duration.ofMillis(100));
                }
            }
        });
        poller.setDaemon(true);
        poller.start();
    }

    int count() {
        return assigned.size();
    }

    @Override
    public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
        assigned.addAll(partitions);
    }

    @Override
    public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
        assigned.removeAll(partitions);
    }

    @Override
    public void close() throws InterruptedException {
        leaving = true;
        poller.join(Report.WAIT_MAX_MS);
    }
}
