import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * A producing load with the Java client: its defaults, but for acks, where that of 2.8.2 is 1. What it prints is described in
 * tests/clients/README.md.
 */
public final class Load {
    private static final long DRAIN_TIME_MAX_MS = 20_000;
    private static final long WARM_AGAIN_MS = 200;
    private static final int VALUE_BYTES = 100;

    private final String bootstrap;
    private final String topic;
    private final int partitions;
    private final int rate;
    private final int keys;
    /** Null: the library's default holds. */
    private final Boolean idempotent;

    private final Map<Long, Long> dueNs = new ConcurrentHashMap<>();
    private final Map<Integer, Boolean> warm = new ConcurrentHashMap<>();
    private final AtomicLong sent = new AtomicLong();
    private final AtomicLong errors = new AtomicLong();
    private Program program;

    private Load(String bootstrap, Map<String, String> given) {
        this.bootstrap = bootstrap;
        topic = given.get("--topic");
        partitions = Integer.parseInt(given.getOrDefault("--partitions", "24"));
        rate = Integer.parseInt(given.getOrDefault("--rate", "200"));
        keys = Integer.parseInt(given.getOrDefault("--keys", "240"));
        idempotent = given.containsKey("--idempotent") ? Boolean.TRUE : given.containsKey("--plain") ? Boolean.FALSE : null;
        if (topic == null || Math.min(partitions, Math.min(rate, keys)) < 1 || keys % partitions != 0) {
            throw new IllegalArgumentException("a topic; rate, partitions and keys are at least 1, and keys a multiple of partitions");
        }
        if (given.containsKey("--idempotent") && given.containsKey("--plain")) {
            throw new IllegalArgumentException("both --idempotent and --plain");
        }
    }

    public static void main(String[] args) throws Exception {
        System.setProperty("org.slf4j.simpleLogger.defaultLogLevel", "error");
        Load load = null;
        try {
            load = parse(args);
        } catch (IllegalArgumentException e) {
            System.err.println(e.getMessage());
            System.err.println("usage: Load BOOTSTRAP --load --topic T [--partitions P] [--rate R] [--keys K] [--idempotent | --plain] --out json");
            System.exit(2);
        }
        load.run();
    }

    private static Load parse(String[] args) {
        List<String> alone = Arrays.asList("--load", "--idempotent", "--plain");
        Map<String, String> given = Program.options(args, alone, Arrays.asList("--topic", "--partitions", "--rate", "--keys"));
        return new Load(args[0], given);
    }

    private void run() throws Exception {
        Report.client(Report.version());
        program = new Program("acks");
        Program.background(() -> {
            try {
                drive(new KafkaProducer<>(config(), new StringSerializer(), new StringSerializer()));
            } catch (RuntimeException e) {
                program.die(e.toString());
            }
        });
        while (!program.stopping()) {
            Program.pause(Program.POLL_MS);
        }
        long until = System.nanoTime() + DRAIN_TIME_MAX_MS * 1_000_000;
        while (!dueNs.isEmpty() && System.nanoTime() < until) {
            Program.pause(Program.POLL_MS);
        }
        program.end(0, () -> "{\"done\":true,\"sent\":" + sent + ",\"acked\":" + program.printed() + ",\"errors\":" + errors + "}");
    }

    private Properties config() {
        Properties p = new Properties();
        p.put("bootstrap.servers", bootstrap);
        p.put("client.id", "load-java-" + Report.version());
        p.put("acks", "all");
        if (idempotent != null) {
            p.put("enable.idempotence", idempotent.toString());
        }
        return p;
    }

    /** Warms up, one record for each partition, and then hands over each record when it is due, however long others take. */
    private void drive(KafkaProducer<String, String> producer) {
        while (warm.size() < partitions) {
            for (int p = 0; p < partitions; p++) {
                send(producer, System.nanoTime());
            }
            do {
                Program.pause(dueNs.isEmpty() && warm.size() < partitions ? WARM_AGAIN_MS : Program.POLL_MS);
            } while (warm.size() < partitions && !dueNs.isEmpty());
        }
        Report.emit("{\"ready\":true}");
        long start = System.nanoTime();
        for (long i = 0; !program.stopping(); i++) {
            long due = start + i * 1_000_000_000L / rate;
            long wait = due - System.nanoTime();
            if (wait > 0) {
                Program.pause((wait + 999_999) / 1_000_000);
            }
            if (!program.stopping()) {
                send(producer, due);
            }
        }
    }

    private void send(KafkaProducer<String, String> producer, long due) {
        long n = sent.get();
        int key = (int) (n % keys);
        StringBuilder value = new StringBuilder(String.format("%011d ", n));
        while (value.length() < VALUE_BYTES) {
            value.append('x');
        }
        dueNs.put(n, due);
        sent.incrementAndGet();
        try {
            producer.send(new ProducerRecord<>(topic, key % partitions, Integer.toString(key), value.toString()), (at, error) -> done(n, error));
        } catch (RuntimeException e) {
            done(n, e);
        }
    }

    /** Notes what became of a record; the first word counts. */
    private void done(long n, Exception error) {
        long nowNs = System.nanoTime();
        double at = Program.unixMs();
        Long due = dueNs.get(n);
        if (due == null) {
            return;
        }
        if (error != null) {
            errors.incrementAndGet();
            Report.emit("{\"error\":" + Report.quoted(error.toString()) + ",\"n\":" + n + ",\"at\":" + Program.decimal(at) + "}");
        } else {
            int partition = (int) (n % keys) % partitions;
            program.add(n, partition, Program.decimal((nowNs - due) / 1e6), Program.decimal(at));
            warm.put(partition, true);
        }
        // Last: what is not outstanding has been noted.
        dueNs.remove(n);
    }
}
