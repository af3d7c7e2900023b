import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.math.BigDecimal;
import java.nio.charset.StandardCharsets;
import java.time.Instant;
import java.util.Arrays;
import java.util.HashMap;
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
    private static final long LOAD_TIME_MAX_MS = 300_000;
    private static final long DRAIN_TIME_MAX_MS = 20_000;
    private static final long PRINT_EVERY_MS = 50;
    private static final long POLL_MS = 5;
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
    private final AtomicLong acked = new AtomicLong();
    private final AtomicLong errors = new AtomicLong();
    private final Object acksLock = new Object();
    private StringBuilder acks = new StringBuilder();
    private volatile boolean stopping;

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
        if (args.length == 0 || args[0].startsWith("-")) {
            throw new IllegalArgumentException("no bootstrap servers");
        }
        Map<String, String> given = new HashMap<>();
        for (int i = 1; i < args.length; i++) {
            if (Arrays.asList("--load", "--idempotent", "--plain").contains(args[i])) {
                given.put(args[i], "");
            } else if (Arrays.asList("--topic", "--partitions", "--rate", "--keys", "--out").contains(args[i]) && i + 1 < args.length) {
                given.put(args[i], args[++i]);
            } else {
                throw new IllegalArgumentException("not understood: " + args[i]);
            }
        }
        return new Load(args[0], given);
    }

    private void run() throws Exception {
        Report.client(Report.version());
        background(() -> {
            pause(LOAD_TIME_MAX_MS);
            die("not stopped after 300 s");
        });
        background(this::awaitStop);
        background(() -> {
            for (;;) {
                pause(PRINT_EVERY_MS);
                flush();
            }
        });
        background(() -> {
            try {
                drive(new KafkaProducer<>(config(), new StringSerializer(), new StringSerializer()));
            } catch (RuntimeException e) {
                die(e.toString());
            }
        });
        while (!stopping) {
            pause(POLL_MS);
        }
        long until = System.nanoTime() + DRAIN_TIME_MAX_MS * 1_000_000;
        while (!dueNs.isEmpty() && System.nanoTime() < until) {
            pause(POLL_MS);
        }
        flush();
        Report.emit("{\"done\":true,\"sent\":" + sent + ",\"acked\":" + acked + ",\"errors\":" + errors + "}");
        // Closing the producer may wait for brokers that are gone.
        Runtime.getRuntime().halt(0);
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
                pause(dueNs.isEmpty() && warm.size() < partitions ? WARM_AGAIN_MS : POLL_MS);
            } while (warm.size() < partitions && !dueNs.isEmpty());
        }
        Report.emit("{\"ready\":true}");
        long start = System.nanoTime();
        for (long i = 0; !stopping; i++) {
            long due = start + i * 1_000_000_000L / rate;
            long wait = due - System.nanoTime();
            if (wait > 0) {
                pause((wait + 999_999) / 1_000_000);
            }
            if (!stopping) {
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
        double at = unixMs();
        Long due = dueNs.get(n);
        if (due == null) {
            return;
        }
        if (error != null) {
            errors.incrementAndGet();
            Report.emit("{\"error\":" + Report.quoted(error.toString()) + ",\"n\":" + n + ",\"at\":" + decimal(at) + "}");
        } else {
            int partition = (int) (n % keys) % partitions;
            synchronized (acksLock) {
                acks.append(acks.length() == 0 ? "[" : ",[").append(n).append(',').append(partition).append(',');
                acks.append(decimal((nowNs - due) / 1e6)).append(',').append(decimal(at)).append(']');
            }
            acked.incrementAndGet();
            warm.put(partition, true);
        }
        // Last: what is not outstanding has been noted.
        dueNs.remove(n);
    }

    private void flush() {
        StringBuilder full;
        synchronized (acksLock) {
            full = acks;
            acks = new StringBuilder();
        }
        if (full.length() > 0) {
            Report.emit("{\"acks\":[" + full + "]}");
        }
    }

    private void die(String why) {
        flush();
        System.err.println(why);
        Runtime.getRuntime().halt(1);
    }

    private void awaitStop() {
        try {
            BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
            for (String line = in.readLine(); line != null && !line.trim().equals("stop"); line = in.readLine()) {
                continue;
            }
        } catch (IOException e) {
            System.err.println(e);
        }
        stopping = true;
    }

    private static double unixMs() {
        Instant now = Instant.now();
        return now.getEpochSecond() * 1e3 + now.getNano() / 1e6;
    }

    /** Milliseconds to the microsecond, whatever the locale. */
    private static String decimal(double ms) {
        return BigDecimal.valueOf(Math.round(ms * 1000), 3).toPlainString();
    }

    private static void background(Runnable work) {
        Thread thread = new Thread(work);
        thread.setDaemon(true);
        thread.start();
    }

    private static void pause(long ms) {
        try {
            Thread.sleep(ms);
        } catch (InterruptedException e) {
            throw new IllegalStateException(e);
        }
    }
}
