package oracle;

import java.time.Duration;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.Set;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.processor.PunctuationType;
import org.apache.kafka.streams.processor.api.ContextualProcessor;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.ProcessorSupplier;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueIterator;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.StoreBuilder;
import org.apache.kafka.streams.state.Stores;
import org.apache.kafka.streams.state.WindowStore;
import org.apache.kafka.streams.state.WindowStoreIterator;

/** Processors of the Processor API; family_process.go has the same ones. Records without a key pass through. */
final class Processors {
    private Processors() {}

    static ProcessorSupplier<String, String, String, String> named(Case.Node n) {
        String store = "process-" + n.id;
        StoreBuilder<?> builder = Stores.keyValueStoreBuilder(
                Stores.inMemoryKeyValueStore(store), Graph.TEXT, Graph.TEXT);
        switch (n.fn) {
            case "count":
                return supplier(builder, () -> new Counter(store));
            case "previous":
                return supplier(builder, () -> new Previous(store));
            case "all":
                return supplier(builder, () -> new All(store));
            case "expire":
                return supplier(builder, () -> new Expire(store, n.limit));
            default:
                throw new IllegalArgumentException("no processor is called \"" + n.fn + "\"");
        }
    }

    /** Drops a record with an id that another one within the window has, as tutorials do it. */
    static ProcessorSupplier<String, String, String, String> deduplicate(Case.Node n) {
        String store = "ids-" + n.id;
        long window = n.window.before + n.window.after + 1;
        StoreBuilder<?> builder = Stores.windowStoreBuilder(
                Stores.inMemoryWindowStore(
                        store, Duration.ofDays(1), Duration.ofMillis(window), false),
                Graph.TEXT, Graph.TEXT);
        return supplier(builder, () -> new Deduplicate(store, n));
    }

    private static ProcessorSupplier<String, String, String, String> supplier(
            StoreBuilder<?> store, java.util.function.Supplier<Processor<String, String, String, String>> make) {
        return new ProcessorSupplier<>() {
            @Override
            public Processor<String, String, String, String> get() {
                return make.get();
            }

            @Override
            public Set<StoreBuilder<?>> stores() {
                return Set.of(store);
            }
        };
    }

    /** A processor with a store. */
    private abstract static class Stored extends ContextualProcessor<String, String, String, String> {
        private final String name;
        KeyValueStore<String, String> store;

        Stored(String name) {
            this.name = name;
        }

        @Override
        public void init(ProcessorContext<String, String> context) {
            super.init(context);
            store = context.getStateStore(name);
        }

        @Override
        public void process(Record<String, String> r) {
            if (r.key() == null) {
                context().forward(r);
                return;
            }
            keyed(r);
        }

        abstract void keyed(Record<String, String> r);
    }

    private static final class Counter extends Stored {
        Counter(String name) {
            super(name);
        }

        @Override
        void keyed(Record<String, String> r) {
            String before = store.get(r.key());
            String count = before == null ? "1" : String.valueOf(Long.parseLong(before) + 1);
            store.put(r.key(), count);
            context().forward(r.withValue(r.value() + "#" + count));
        }
    }

    private static final class Previous extends Stored {
        Previous(String name) {
            super(name);
        }

        @Override
        void keyed(Record<String, String> r) {
            String before = store.get(r.key());
            store.put(r.key(), r.value()); // null deletes
            context().forward(r.withValue(before + "<" + r.value()));
        }
    }

    private static final class All extends Stored {
        All(String name) {
            super(name);
        }

        @Override
        void keyed(Record<String, String> r) {
            store.put(r.key(), r.value());
            try (KeyValueIterator<String, String> all = store.all()) {
                while (all.hasNext()) {
                    KeyValue<String, String> kv = all.next();
                    context().forward(new Record<>(kv.key, kv.value, r.timestamp()));
                }
            }
        }
    }

    /** Tells when a key has had no record for a while of stream time. */
    private static final class Expire extends Stored {
        private final long after;

        Expire(String name, long after) {
            super(name);
            this.after = after;
        }

        @Override
        public void init(ProcessorContext<String, String> context) {
            super.init(context);
            context.schedule(Duration.ofMillis(1), PunctuationType.STREAM_TIME, this::expire);
        }

        @Override
        void keyed(Record<String, String> r) {
            long due = r.timestamp() + after;
            if (due <= context().currentStreamTimeMs()) {
                context().forward(r.withValue("late-" + r.value()));
                return;
            }
            store.put(r.key(), due + " " + r.value());
        }

        private void expire(long now) {
            List<KeyValue<String, String>> due = new ArrayList<>();
            try (KeyValueIterator<String, String> all = store.all()) {
                while (all.hasNext()) {
                    KeyValue<String, String> kv = all.next();
                    if (time(kv.value) <= now) {
                        due.add(kv);
                    }
                }
            }
            due.sort(Comparator.comparingLong(kv -> time(kv.value))); // stable: then by key
            for (KeyValue<String, String> kv : due) {
                store.delete(kv.key);
                String value = kv.value.substring(kv.value.indexOf(' ') + 1);
                context().forward(new Record<>(kv.key, "gone-" + value, time(kv.value)));
            }
        }

        private static long time(String value) {
            return Long.parseLong(value.substring(0, value.indexOf(' ')));
        }
    }

    private static final class Deduplicate extends ContextualProcessor<String, String, String, String> {
        private final String name;
        private final Case.Node node;
        private WindowStore<String, String> ids;

        Deduplicate(String name, Case.Node node) {
            this.name = name;
            this.node = node;
        }

        @Override
        public void init(ProcessorContext<String, String> context) {
            super.init(context);
            ids = context.getStateStore(name);
        }

        @Override
        public void process(Record<String, String> r) {
            Case.Window w = node.window;
            long at = r.timestamp();
            if (at + w.after + w.grace < context().currentStreamTimeMs()) {
                return;
            }
            String id = node.by.isEmpty() ? r.key() : Functions.key(node.by, r.key(), r.value());
            id = id == null ? "null" : "=" + id;
            boolean seen;
            try (WindowStoreIterator<String> found = ids.fetch(id, Math.max(0, at - w.before), at + w.after)) {
                seen = found.hasNext();
            }
            if (!seen) {
                ids.put(id, "", at);
                context().forward(r);
            }
        }
    }
}
