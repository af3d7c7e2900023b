import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.TreeMap;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.DescribeClusterResult;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.Node;
import org.apache.kafka.common.PartitionInfo;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/** The conformance scenario with the Java client; one source for every version of it. */
public final class Conformance {
    private static final int PARTITIONS = 6;
    private static final int RECORDS_PER_TAG = 60;

    private final String bootstrap;
    private final String clientId;
    private final String topic;
    private final List<TopicPartition> partitions;

    private Conformance(String bootstrap) {
        this.bootstrap = bootstrap;
        clientId = "conformance-java-" + Report.version();
        topic = clientId + "-" + System.currentTimeMillis();
        partitions = IntStream.range(0, PARTITIONS).mapToObj(p -> new TopicPartition(topic, p)).collect(Collectors.toList());
    }

    public static void main(String[] args) {
        if (args.length < 1) {
            System.err.println("usage: Conformance BOOTSTRAP --out json");
            System.exit(2);
        }
        Report.readLog();
        Report.client(Report.version());
        new Conformance(args[0]).scenario();
        Report.finish();
    }

    private Properties config(String... more) {
        Properties p = new Properties();
        p.put("bootstrap.servers", bootstrap);
        p.put("client.id", clientId);
        for (int i = 0; i < more.length; i += 2) {
            p.put(more[i], more[i + 1]);
        }
        return p;
    }

    private Properties consuming(String... more) {
        Properties p = config(more);
        p.put("key.deserializer", ByteArrayDeserializer.class.getName());
        p.put("value.deserializer", StringDeserializer.class.getName());
        p.put("auto.offset.reset", "earliest");
        p.put("heartbeat.interval.ms", "500");
        p.put("enable.auto.commit", "false");
        return p;
    }

    private KafkaProducer<byte[], String> producer(String... more) {
        KafkaProducer<byte[], String> p = new KafkaProducer<>(config(more), new ByteArraySerializer(), new StringSerializer());
        for (PartitionInfo info : p.partitionsFor(topic)) {
            told(Arrays.asList(info.replicas()));
        }
        return p;
    }

    private static void told(Collection<Node> nodes) {
        nodes.forEach(n -> Report.told(n.host(), n.port()));
    }

    private void scenario() {
        try (Admin admin = Admin.create(config())) {
            boolean created = Report.step("create_topic", () -> {
                admin.createTopics(Collections.singleton(new NewTopic(topic, PARTITIONS, (short) 3))).all().get(30, TimeUnit.SECONDS);
                return Report.eventually("the new topic in metadata", "", () -> listed(admin));
            });
            if (!created) {
                return;
            }
            produceAndReadBack();
            Report.step("group_rebalance", this::groupRebalance);
            Report.step("commit_resume", this::commitAndResume);
            Report.step("seek_by_time", this::seekByTime);
            Report.step("transaction", this::transaction);
            Report.step("list_groups", () -> {
                List<String> groups = admin.listConsumerGroups().all().get(30, TimeUnit.SECONDS).stream().map(g -> g.groupId()).collect(Collectors.toList());
                if (!groups.contains(topic + "-commit")) {
                    throw new IllegalStateException(topic + "-commit is not among " + groups);
                }
                return groups.size() + " groups";
            });
            Report.step("describe_cluster", () -> {
                DescribeClusterResult cluster = admin.describeCluster();
                Collection<Node> nodes = cluster.nodes().get(30, TimeUnit.SECONDS);
                told(nodes);
                Node controller = cluster.controller().get(30, TimeUnit.SECONDS);
                if (nodes.size() < 3 || controller == null) {
                    throw new IllegalStateException("brokers " + nodes + ", controller " + controller);
                }
                told(Collections.singleton(controller));
                return nodes.size() + " brokers";
            });
            Report.step("delete_topic", () -> {
                admin.deleteTopics(Collections.singleton(topic)).all().get(30, TimeUnit.SECONDS);
                return Report.eventually("metadata without the topic", "", () -> !listed(admin));
            });
        }
    }

    private boolean listed(Admin admin) {
        try {
            return admin.listTopics().names().get(10, TimeUnit.SECONDS).contains(topic);
        } catch (Exception e) {
            throw new IllegalStateException(e);
        }
    }

    private void produceAndReadBack() {
        Map<String, Exception> failures = new HashMap<>();
        List<String> tags = new ArrayList<>();
        for (String codec : Arrays.asList("none", "gzip", "snappy", "lz4", "zstd")) {
            for (boolean idempotent : new boolean[] {false, true}) {
                String tag = "produce_" + codec + (idempotent ? "_idempotent" : "");
                tags.add(tag);
                try (KafkaProducer<byte[], String> p = producer("compression.type", codec, "enable.idempotence", "" + idempotent, "acks", "all")) {
                    List<Future<RecordMetadata>> sent = new ArrayList<>();
                    for (int n = 0; n < RECORDS_PER_TAG; n++) {
                        String value = tag + ":" + n / PARTITIONS + ":" + String.join("", Collections.nCopies(20, "evenkeel"));
                        sent.add(p.send(new ProducerRecord<>(topic, n % PARTITIONS, null, value)));
                    }
                    for (Future<RecordMetadata> f : sent) {
                        f.get(60, TimeUnit.SECONDS);
                    }
                } catch (Exception e) {
                    failures.put(tag, e);
                }
            }
        }
        Map<String, Integer> next = new HashMap<>();
        try (KafkaConsumer<byte[], String> c = new KafkaConsumer<>(consuming())) {
            for (ConsumerRecord<byte[], String> record : readToEnd(c, beginning())) {
                String[] parts = record.value().split(":");
                String key = parts[0] + "/" + record.partition();
                int due = next.merge(key, 1, Integer::sum) - 1;
                if (due != Integer.parseInt(parts[1])) {
                    failures.putIfAbsent(parts[0], new IllegalStateException("partition " + record.partition() + ": record " + parts[1] + " where " + due + " was due"));
                }
            }
        } catch (Exception e) {
            tags.forEach(tag -> failures.putIfAbsent(tag, e));
        }
        for (String tag : tags) {
            Report.step(tag, () -> {
                if (failures.containsKey(tag)) {
                    throw failures.get(tag);
                }
                for (int p = 0; p < PARTITIONS; p++) {
                    int n = next.getOrDefault(tag + "/" + p, 0);
                    if (n != RECORDS_PER_TAG / PARTITIONS) {
                        throw new IllegalStateException("partition " + p + ": " + n + " of " + RECORDS_PER_TAG / PARTITIONS + " records read back");
                    }
                }
                return RECORDS_PER_TAG + " records";
            });
        }
    }

    private Map<TopicPartition, Long> beginning() {
        return partitions.stream().collect(Collectors.toMap(p -> p, p -> 0L));
    }

    /** Reads each partition from the given offset to the end that it has now. */
    private List<ConsumerRecord<byte[], String>> readToEnd(KafkaConsumer<byte[], String> c, Map<TopicPartition, Long> from) {
        c.assign(from.keySet());
        from.forEach(c::seek);
        Map<TopicPartition, Long> ends = c.endOffsets(from.keySet(), Duration.ofSeconds(30));
        List<ConsumerRecord<byte[], String>> records = new ArrayList<>();
        long until = System.currentTimeMillis() + Report.WAIT_MAX_MS;
        while (ends.entrySet().stream().anyMatch(e -> c.position(e.getKey()) < e.getValue())) {
            if (System.currentTimeMillis() > until) {
                throw new IllegalStateException("ends not reached after " + records.size() + " records: " + ends);
            }
            c.poll(Duration.ofMillis(200)).forEach(records::add);
        }
        return records;
    }

    private String groupRebalance() throws Exception {
        String group = topic + "-rebalance";
        try (Member a = new Member(consuming("group.id", group), topic)) {
            Report.eventually("all partitions at the only member", "", () -> a.count() == PARTITIONS);
            try (Member b = new Member(consuming("group.id", group), topic)) {
                Report.eventually("half the partitions at each of two members", "", () -> a.count() == PARTITIONS / 2 && b.count() == PARTITIONS / 2);
            }
            return Report.eventually("all partitions back at the first member", "6, 3+3, 6", () -> a.count() == PARTITIONS);
        }
    }

    private String commitAndResume() {
        String group = topic + "-commit";
        try (KafkaConsumer<byte[], String> c = new KafkaConsumer<>(consuming("group.id", group))) {
            c.subscribe(Collections.singleton(topic));
            long until = System.currentTimeMillis() + Report.WAIT_MAX_MS;
            while (c.assignment().size() < PARTITIONS && System.currentTimeMillis() < until) {
                c.poll(Duration.ofMillis(200));
            }
            Map<TopicPartition, OffsetAndMetadata> offsets = new HashMap<>();
            partitions.forEach(p -> offsets.put(p, new OffsetAndMetadata(p.partition() + 3)));
            c.commitSync(offsets, Duration.ofSeconds(30));
        }
        Map<Integer, Long> first = new TreeMap<>();
        try (KafkaConsumer<byte[], String> c = new KafkaConsumer<>(consuming("group.id", group))) {
            c.subscribe(Collections.singleton(topic));
            long until = System.currentTimeMillis() + Report.WAIT_MAX_MS;
            while (first.size() < PARTITIONS && System.currentTimeMillis() < until) {
                c.poll(Duration.ofMillis(200)).forEach(r -> first.putIfAbsent(r.partition(), r.offset()));
            }
        }
        for (int p = 0; p < PARTITIONS; p++) {
            if (first.getOrDefault(p, -1L) != p + 3) {
                throw new IllegalStateException("committed at partition + 3, resumed at " + first);
            }
        }
        return "";
    }

    private String seekByTime() throws Exception {
        long startMs = System.currentTimeMillis() + 60_000;
        long want = -1;
        try (KafkaProducer<byte[], String> p = producer()) {
            for (int i = 0; i < 3; i++) {
                RecordMetadata at = p.send(new ProducerRecord<>(topic, 1, startMs + i * 1000L, null, "timed")).get(30, TimeUnit.SECONDS);
                want = i == 1 ? at.offset() : want;
            }
        }
        TopicPartition partition = partitions.get(1);
        try (KafkaConsumer<byte[], String> c = new KafkaConsumer<>(consuming())) {
            long found = c.offsetsForTimes(Collections.singletonMap(partition, startMs + 500), Duration.ofSeconds(30)).get(partition).offset();
            long first = readToEnd(c, Collections.singletonMap(partition, found)).get(0).offset();
            if (found != want || first != want) {
                throw new IllegalStateException("wanted " + want + ", found " + found + ", first record at " + first);
            }
        }
        return "";
    }

    private String transaction() throws Exception {
        Map<TopicPartition, Long> from;
        try (KafkaConsumer<byte[], String> c = new KafkaConsumer<>(consuming())) {
            from = c.endOffsets(partitions, Duration.ofSeconds(30));
        }
        try (KafkaProducer<byte[], String> p = producer("transactional.id", topic + "-txn")) {
            p.initTransactions();
            for (String value : Arrays.asList("committed", "aborted", "committed-2")) {
                p.beginTransaction();
                for (int i = 0; i < 12; i++) {
                    p.send(new ProducerRecord<>(topic, i % PARTITIONS, null, value)).get(30, TimeUnit.SECONDS);
                }
                if (value.equals("aborted")) {
                    p.abortTransaction();
                } else {
                    p.commitTransaction();
                }
            }
        }
        Map<String, Integer> seen = new TreeMap<>();
        try (KafkaConsumer<byte[], String> c = new KafkaConsumer<>(consuming("isolation.level", "read_committed"))) {
            readToEnd(c, from).forEach(r -> seen.merge(r.value(), 1, Integer::sum));
        }
        Map<String, Integer> want = new TreeMap<>();
        want.put("committed", 12);
        want.put("committed-2", 12);
        if (!seen.equals(want)) {
            throw new IllegalStateException("a read_committed consumer saw " + seen);
        }
        return "24 committed seen, 12 aborted not";
    }
}
