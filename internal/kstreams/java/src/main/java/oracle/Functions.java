package oracle;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/**
 * The functions that cases name. functions.go has the same ones; a value is a string or null, and
 * no function changes what it is given.
 */
final class Functions {
    private Functions() {}

    static boolean test(String name, String key, String value) {
        switch (name) {
            case "all":
                return true;
            case "none":
                return false;
            case "has-value":
                return value != null;
            case "key-a":
                return "a".equals(key);
            case "starts-b":
                return value != null && value.startsWith("b");
            case "not-a":
                return value == null || !value.startsWith("a");
            case "even":
                return number(value) % 2 == 0;
            default:
                throw unknown("predicate", name);
        }
    }

    static String value(String name, String key, String value) {
        switch (name) {
            case "same":
                return value;
            case "upper":
                return value == null ? null : value.toUpperCase(java.util.Locale.ROOT);
            case "first":
                return first(value);
            case "with-key":
                return key + ":" + value;
            case "half":
                return value == null ? "0" : Long.toString(number(value) / 2);
            case "null-b":
                return value != null && value.startsWith("b") ? null : value;
            default:
                throw unknown("value function", name);
        }
    }

    static String key(String name, String key, String value) {
        switch (name) {
            case "key":
                return key;
            case "first":
                return first(value);
            case "value":
                return value;
            case "ref":
                return ref(value);
            case "ref2":
                return secondRef(value);
            case "number":
                return value == null ? null : Long.toString(number(value));
            case "one":
                return "1";
            case "pair":
                return key + first(value);
            default:
                throw unknown("key function", name);
        }
    }

    static List<String[]> flat(String name, String key, String value) {
        List<String[]> out = new ArrayList<>();
        switch (name) {
            case "none":
                break;
            case "twice":
                out.add(new String[] {key, value + "1"});
                out.add(new String[] {key, value + "2"});
                break;
            case "swap":
                out.add(new String[] {first(value), key + value});
                break;
            case "chars":
                for (int i = 0; value != null && i < value.length(); i++) {
                    out.add(new String[] {value.substring(i, i + 1), value});
                }
                break;
            default:
                throw unknown("flat function", name);
        }
        return out;
    }

    static String join(String left, String right) {
        return left + "-" + right;
    }

    static String initial(String name) {
        switch (name) {
            case "count":
            case "sum":
                return "0";
            default:
                return "";
        }
    }

    static String add(String name, String agg, String value) {
        switch (name) {
            case "count":
                return Long.toString(Long.parseLong(agg) + 1);
            case "sum":
                return Long.toString(Long.parseLong(agg) + number(value));
            case "concat":
                return agg.isEmpty() ? String.valueOf(value) : agg + "+" + value;
            case "sorted":
                return sorted(agg, value, true);
            case "last":
                return value;
            default:
                throw unknown("aggregator", name);
        }
    }

    static String remove(String name, String agg, String value) {
        switch (name) {
            case "count":
                return Long.toString(Long.parseLong(agg) - 1);
            case "sum":
                return Long.toString(Long.parseLong(agg) - number(value));
            case "sorted":
                return sorted(agg, value, false);
            default:
                throw unknown("aggregator that removes", name);
        }
    }

    static String merge(String name, String one, String two) {
        switch (name) {
            case "count":
            case "sum":
                return Long.toString(Long.parseLong(one) + Long.parseLong(two));
            case "concat":
                return one.isEmpty() ? two : two.isEmpty() ? one : one + "+" + two;
            case "sorted":
                for (String v : two.isEmpty() ? new String[0] : two.split("\\+", -1)) {
                    one = sorted(one, v, true);
                }
                return one;
            default:
                throw unknown("aggregator that merges", name);
        }
    }

    private static String sorted(String agg, String value, boolean add) {
        List<String> values = new ArrayList<>();
        if (!agg.isEmpty()) {
            values.addAll(Arrays.asList(agg.split("\\+", -1)));
        }
        if (add) {
            values.add(String.valueOf(value));
        } else {
            values.remove(String.valueOf(value));
        }
        values.sort(null);
        return String.join("+", values);
    }

    private static String first(String value) {
        return value == null || value.isEmpty() ? null : value.substring(0, 1);
    }

    /** The foreign key behind the slash of a value such as x/y-rest. */
    private static String secondRef(String value) {
        int slash = value == null ? -1 : value.indexOf('/');
        if (slash < 0) {
            return null;
        }
        String rest = value.substring(slash + 1);
        int dash = rest.indexOf('-');
        rest = dash < 0 ? rest : rest.substring(0, dash);
        return rest.isEmpty() ? null : rest;
    }

    /** The foreign key of a value such as x/rest; none where it begins with the slash or has none. */
    private static String ref(String value) {
        int i = value == null ? -1 : value.indexOf('/');
        return i <= 0 ? null : value.substring(0, i);
    }

    /** The digits of a value, read as a number. */
    private static long number(String value) {
        long n = 0;
        for (int i = 0; value != null && i < value.length(); i++) {
            char c = value.charAt(i);
            if (c >= '0' && c <= '9') {
                n = (n * 10 + c - '0') % 1_000_000_007L;
            }
        }
        return n;
    }

    private static IllegalArgumentException unknown(String what, String name) {
        return new IllegalArgumentException("no " + what + " is called \"" + name + "\"");
    }
}
