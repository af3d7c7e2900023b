import java.time.Duration;
import java.util.Arrays;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.AuthenticationException;
import org.apache.kafka.common.errors.AuthorizationException;
import org.apache.kafka.common.errors.FencedInstanceIdException;
import org.apache.kafka.common.errors.OutOfOrderSequenceException;
import org.apache.kafka.common.errors.ProducerFencedException;
import org.apache.kafka.common.errors.SerializationException;
import org.apache.kafka.common.errors.TimeoutException;
import org.apache.kafka.common.errors.UnsupportedVersionException;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * Copies a topic in transactions: each takes what one poll brought, produces it changed, and commits the offsets along with it. What it
 * prints is described in tests/clients/README.md. Errors are handled as the producer's documentation says, and in no better way.
 */
public final class Copy {
    private static final long STOP_TIME_MAX_MS = 20_000;
    private static final Duration POLL_WAIT = Duration.ofMillis(100);
    private static final long PAUSE_AFTER_ERROR_MS = 10;

    private final String bootstrap;
    private final String from;
    private final String to;
    private final String group;
    private final String transactionalId;
    private final String groupProtocol;
    private final int recordsPerTransaction;
    private final long recordsMax;

    private Program program;
    private KafkaConsumer<byte[], byte[]> consumer;
    private KafkaProducer<byte[], byte[]> producer;
    private boolean open;
    private boolean astray;
    private volatile long copied;
    private volatile long aborts;
    private volatile long errors;

    private Copy(String bootstrap, Map<String, String> given) {
        this.bootstrap = bootstrap;
        from = given.get("--topic");
        to = given.get("--to");
        group = given.get("--group");
        transactionalId = given.get("--transactional-id");
        groupProtocol = given.get("--group-protocol");
        recordsPerTransaction = Integer.parseInt(given.getOrDefault("--per-transaction", "20"));
        recordsMax = Long.parseLong(given.getOrDefault("--records", String.valueOf(Long.MAX_VALUE)));
        if (from == null || to == null || group == null || transactionalId == null) {
            throw new IllegalArgumentException("two topics, a group and a transactional id are needed");
        }
        if (recordsPerTransaction < 1 || recordsMax < 1) {
            throw new IllegalArgumentException("at least one record, and one per transaction");
        }
        if (groupProtocol != null && !Consume.hasGroupProtocols()) {
            throw new IllegalArgumentException("this version has one group protocol only");
        }
    }

    public static void main(String[] args) throws Exception {
        System.setProperty("org.slf4j.simpleLogger.defaultLogLevel", "error");
        List<String> valued = Arrays.asList("--topic", "--to", "--group", "--transactional-id", "--group-protocol", "--per-transaction", "--records");
        Copy copy = null;
        try {
            copy = new Copy(args.length == 0 ? "" : args[0], Program.options(args, Arrays.asList("--copy"), valued));
        } catch (IllegalArgumentException e) {
            System.err.println(e.getMessage());
            System.err.println("usage: Copy BOOTSTRAP --copy --topic A --to B --group G --transactional-id X [--per-transaction R] [--records N]"
                + " [--group-protocol classic|consumer] --out json");
            System.exit(2);
        }
        copy.run();
    }

    private void run() throws Exception {
        Report.client(Report.version());
        program = new Program("transactions");
        Thread copying = Program.background(() -> {
            try {
                copyAll();
            } catch (RuntimeException | LinkageError e) {
                fatal(e);
            }
        });
        while (!program.stopping() && copying.isAlive()) {
            Program.pause(Program.POLL_MS);
        }
        copying.join(STOP_TIME_MAX_MS);
        done(0, !copying.isAlive());
    }

    private void copyAll() {
        producer = new KafkaProducer<>(producing(), new ByteArraySerializer(), new ByteArraySerializer());
        consumer = new KafkaConsumer<>(consuming(), new ByteArrayDeserializer(), new ByteArrayDeserializer());
        repeatedOnTimeout(producer::initTransactions);
        consumer.subscribe(Collections.singleton(from), new Assignment(program, consumer::groupMetadata));
        while (!program.stopping() && copied < recordsMax) {
            try {
                if (astray) {
                    backToCommitted();
                }
                copyOnce();
            } catch (AuthenticationException | AuthorizationException | UnsupportedVersionException | ProducerFencedException
                    | FencedInstanceIdException | OutOfOrderSequenceException | SerializationException e) {
                // For these the documentation has no other way than to end.
                throw e;
            } catch (KafkaException e) {
                errors++;
                say("error", e);
                abort();
                astray = true;
                Program.pause(PAUSE_AFTER_ERROR_MS);
            }
        }
        consumer.close();
        producer.close();
    }

    private void copyOnce() {
        ConsumerRecords<byte[], byte[]> records = consumer.poll(POLL_WAIT);
        if (records.isEmpty()) {
            return;
        }
        long start = System.nanoTime();
        producer.beginTransaction();
        open = true;
        Map<TopicPartition, OffsetAndMetadata> next = new HashMap<>();
        for (ConsumerRecord<byte[], byte[]> record : records) {
            producer.send(new ProducerRecord<>(to, record.partition(), record.key(), changed(record.value())));
            next.put(new TopicPartition(from, record.partition()), new OffsetAndMetadata(record.offset() + 1, record.leaderEpoch(), ""));
        }
        producer.sendOffsetsToTransaction(next, consumer.groupMetadata());
        // Whether a commit that timed out was carried out is not known; nothing but committing again is allowed.
        repeatedOnTimeout(producer::commitTransaction);
        open = false;
        copied += records.count();
        program.add(records.count(), Program.decimal((System.nanoTime() - start) / 1e6), Program.decimal(Program.unixMs()));
    }

    /** Each x becomes a y. */
    private static byte[] changed(byte[] value) {
        byte[] changed = value == null ? null : value.clone();
        for (int i = 0; changed != null && i < changed.length; i++) {
            changed[i] = changed[i] == 'x' ? (byte) 'y' : changed[i];
        }
        return changed;
    }

    /** Aborts the transaction, if there is one. Where even that fails, nothing is left but to end. */
    private void abort() {
        if (open) {
            repeatedOnTimeout(producer::abortTransaction);
            open = false;
            aborts++;
            program.print("{\"aborted\":true,\"at\":" + Program.decimal(Program.unixMs()) + "}");
        }
    }

    /** The consumer's positions are behind records that were not copied: back to where the last transaction ended. */
    private void backToCommitted() {
        Map<TopicPartition, OffsetAndMetadata> committed = consumer.committed(consumer.assignment());
        for (TopicPartition partition : consumer.assignment()) {
            OffsetAndMetadata offset = committed.get(partition);
            if (offset == null) {
                consumer.seekToBeginning(Collections.singleton(partition));
            } else {
                consumer.seek(partition, offset);
            }
        }
        astray = false;
    }

    /** The program ends in a bounded time, and this with it. */
    private void repeatedOnTimeout(Runnable step) {
        for (;;) {
            try {
                step.run();
                return;
            } catch (TimeoutException e) {
                errors++;
                say("error", e);
                Program.pause(PAUSE_AFTER_ERROR_MS);
            }
        }
    }

    private Properties producing() {
        Properties p = new Properties();
        p.put("bootstrap.servers", bootstrap);
        p.put("client.id", "copy-java-" + Report.version());
        p.put("transactional.id", transactionalId);
        return p;
    }

    private Properties consuming() {
        Properties p = new Properties();
        p.put("bootstrap.servers", bootstrap);
        p.put("client.id", "copy-java-" + Report.version());
        p.put("group.id", group);
        p.put("auto.offset.reset", "earliest");
        p.put("enable.auto.commit", "false");
        p.put("isolation.level", "read_committed");
        p.put("max.poll.records", String.valueOf(recordsPerTransaction));
        if (groupProtocol != null) {
            p.put("group.protocol", groupProtocol);
        }
        return p;
    }

    private void say(String what, Throwable error) {
        program.print("{\"" + what + "\":" + Report.quoted(error.toString()) + ",\"at\":" + Program.decimal(Program.unixMs()) + "}");
    }

    private void fatal(Throwable error) {
        say("fatal", error);
        done(1, false);
    }

    private void done(int status, boolean closed) {
        program.end(status, () -> "{\"done\":true,\"copied\":" + copied + ",\"transactions\":" + program.printed() + ",\"aborts\":" + aborts + ",\"errors\":" + errors + ",\"closed\":" + closed + "}");
    }
}
