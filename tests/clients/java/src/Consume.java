import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.Arrays;
import java.util.Collections;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/** One member of a consumer group under load, with the Java client's defaults. What it prints is described in tests/clients/README.md. */
public final class Consume {
    private static final long CLOSE_TIME_MAX_MS = 20_000;
    private static final Duration POLL_WAIT = Duration.ofMillis(100);
    private static final long PAUSE_AFTER_ERROR_MS = 10;
    private static final int ERRORS_PRINTED_MAX = 200;
    private static final int NUMBER_DIGITS = 11;

    private final String bootstrap;
    private final String topic;
    private final String group;
    private final String member;
    /** Null: the library's default holds. */
    private final String groupProtocol;

    private final AtomicLong errors = new AtomicLong();
    private Program program;

    private Consume(String bootstrap, Map<String, String> given) {
        this.bootstrap = bootstrap;
        topic = given.get("--topic");
        group = given.get("--group");
        member = given.get("--member");
        groupProtocol = given.get("--group-protocol");
        if (topic == null || group == null || member == null) {
            throw new IllegalArgumentException("a topic, a group and a member are needed");
        }
        if (groupProtocol != null && !hasGroupProtocols()) {
            throw new IllegalArgumentException("this version has one group protocol only");
        }
    }

    /** Since 3.7; to an older version the key would mean nothing. */
    static boolean hasGroupProtocols() {
        return ConsumerConfig.configNames().contains("group.protocol");
    }

    public static void main(String[] args) throws Exception {
        System.setProperty("org.slf4j.simpleLogger.defaultLogLevel", "error");
        Consume consume = null;
        try {
            Map<String, String> given = Program.options(args, Arrays.asList("--consume"), Arrays.asList("--topic", "--group", "--member", "--group-protocol"));
            consume = new Consume(args[0], given);
        } catch (IllegalArgumentException e) {
            System.err.println(e.getMessage());
            System.err.println("usage: Consume BOOTSTRAP --consume --topic T --group G --member M [--group-protocol classic|consumer] --out json");
            System.exit(2);
        }
        consume.run();
    }

    private void run() throws Exception {
        Report.emit("{\"client\":\"java\",\"version\":" + Report.quoted(Report.version()) + ",\"member\":" + Report.quoted(member) + "}");
        program = new Program("records");
        Thread consuming = Program.background(() -> {
            try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(config(), new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
                consumer.subscribe(Collections.singleton(topic), new Assignment(program, consumer::groupMetadata));
                while (!program.stopping()) {
                    poll(consumer);
                }
            } catch (RuntimeException | LinkageError e) {
                // No consumer, or its closing threw, which is not an error of consuming any more.
                if (program.stopping()) {
                    System.err.println(e);
                } else {
                    error(e.toString());
                    end(1, true);
                }
            }
        });
        while (!program.stopping()) {
            Program.pause(Program.POLL_MS);
        }
        consuming.join(CLOSE_TIME_MAX_MS);
        end(0, !consuming.isAlive());
    }

    private Properties config() {
        Properties p = new Properties();
        p.put("bootstrap.servers", bootstrap);
        p.put("client.id", "consume-java-" + Report.version() + "-" + member);
        p.put("group.id", group);
        p.put("auto.offset.reset", "earliest");
        if (groupProtocol != null) {
            p.put("group.protocol", groupProtocol);
        }
        return p;
    }

    private void poll(KafkaConsumer<byte[], byte[]> consumer) {
        ConsumerRecords<byte[], byte[]> records;
        try {
            records = consumer.poll(POLL_WAIT);
        } catch (RuntimeException e) {
            error(e.toString());
            Program.pause(PAUSE_AFTER_ERROR_MS);
            return;
        }
        String at = Program.decimal(Program.unixMs());
        for (ConsumerRecord<byte[], byte[]> record : records) {
            long number = number(record.value());
            if (number < 0) {
                error("a value without a number in partition " + record.partition() + " at offset " + record.offset());
                continue;
            }
            program.add(number, record.partition(), record.offset(), at);
        }
    }

    /** The number that a value begins with; -1 where it does not. */
    private static long number(byte[] value) {
        if (value == null || value.length <= NUMBER_DIGITS || value[NUMBER_DIGITS] != ' ') {
            return -1;
        }
        String digits = new String(value, 0, NUMBER_DIGITS, StandardCharsets.US_ASCII);
        return digits.chars().allMatch(c -> c >= '0' && c <= '9') ? Long.parseLong(digits) : -1;
    }

    private void error(String text) {
        if (!program.stopping() && errors.incrementAndGet() <= ERRORS_PRINTED_MAX) {
            program.print("{\"error\":" + Report.quoted(text) + ",\"at\":" + Program.decimal(Program.unixMs()) + "}");
        }
    }

    private void end(int status, boolean closed) {
        program.end(status, () -> "{\"done\":true,\"delivered\":" + program.printed() + ",\"errors\":" + errors + ",\"closed\":" + closed + "}");
    }
}
