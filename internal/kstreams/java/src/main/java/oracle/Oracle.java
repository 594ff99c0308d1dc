package oracle;

import com.fasterxml.jackson.annotation.JsonInclude;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedReader;
import java.io.BufferedWriter;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.OutputStreamWriter;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.serialization.StringSerializer;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.TestInputTopic;
import org.apache.kafka.streams.TopologyTestDriver;
import org.apache.kafka.streams.state.BuiltInDslStoreSuppliers;

/** Runs cases, one JSON document a line, through Kafka Streams' TopologyTestDriver. */
public final class Oracle {
    private static final ObjectMapper JSON =
            new ObjectMapper().setSerializationInclusion(JsonInclude.Include.NON_NULL);

    private Oracle() {}

    /** Answers each line of stdin with a line of stdout, in any order, until stdin ends. */
    public static void main(String[] args) throws IOException, InterruptedException {
        int threads = Integer.parseInt(args[0]);
        String directory = args[1];
        ExecutorService pool = Executors.newFixedThreadPool(threads);
        Semaphore room = new Semaphore(threads * 4);
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        BufferedWriter out = new BufferedWriter(new OutputStreamWriter(System.out, StandardCharsets.UTF_8));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            String text = line;
            room.acquire();
            pool.execute(() -> {
                try {
                    answer(out, run(JSON.readValue(text, Case.class), directory));
                } catch (IOException e) {
                    System.err.println(e);
                    Runtime.getRuntime().halt(3);
                } finally {
                    room.release();
                }
            });
        }
        pool.shutdown();
        pool.awaitTermination(1, TimeUnit.MINUTES);
        System.exit(0);
    }

    private static void answer(BufferedWriter out, Case.Result result) throws IOException {
        String text = JSON.writeValueAsString(result);
        synchronized (out) {
            out.write(text);
            out.write('\n');
            out.flush();
        }
    }

    private static Case.Result run(Case c, String directory) {
        Case.Result result = new Case.Result();
        result.id = c.id;
        List<Case.Output> outputs = new ArrayList<>();
        try (TopologyTestDriver driver =
                new TopologyTestDriver(new Graph(c, outputs).build(), config(c.id, directory))) {
            Map<String, TestInputTopic<String, String>> topics = new HashMap<>();
            for (Case.Input r : c.records) {
                topics.computeIfAbsent(r.topic,
                                t -> driver.createInputTopic(t, new StringSerializer(), new StringSerializer()))
                        .pipeInput(r.key, r.value, r.ts);
                result.steps.add(new ArrayList<>(outputs));
                outputs.clear();
            }
        } catch (RuntimeException e) {
            Throwable root = e;
            while (root.getCause() != null) {
                root = root.getCause();
            }
            result.error = e + (root == e ? "" : ": " + root);
        }
        return result;
    }

    /** No caches and no throttle by the wall clock: every input's outputs come with it. */
    private static Properties config(long id, String directory) {
        Properties p = new Properties();
        p.put(StreamsConfig.APPLICATION_ID_CONFIG, "case-" + id);
        p.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, "none:1");
        p.put(StreamsConfig.STATE_DIR_CONFIG, directory);
        p.put(StreamsConfig.DEFAULT_KEY_SERDE_CLASS_CONFIG, Serdes.StringSerde.class);
        p.put(StreamsConfig.DEFAULT_VALUE_SERDE_CLASS_CONFIG, Serdes.StringSerde.class);
        p.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 0);
        p.put(StreamsConfig.DSL_STORE_SUPPLIERS_CLASS_CONFIG,
                BuiltInDslStoreSuppliers.InMemoryDslStoreSuppliers.class);
        p.put(StreamsConfig.InternalConfig.EMIT_INTERVAL_MS_KSTREAMS_WINDOWED_AGGREGATION, 0L);
        p.put(StreamsConfig.InternalConfig.EMIT_INTERVAL_MS_KSTREAMS_OUTER_JOIN_SPURIOUS_RESULTS_FIX, 0L);
        return p;
    }
}
