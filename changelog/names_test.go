package changelog_test

import (
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/tailrace/tailrace/changelog"
)

func TestTopicNames(t *testing.T) {
	for _, c := range []struct{ app, store, want string }{
		{"shop", "revenue-per-customer", "shop-revenue-per-customer-changelog"},
		{"shop", "order-customer/left", "shop-order-customer_2fleft-changelog"},
		{"shop", "db:public.order_lines", "shop-db_3apublic.order__lines-changelog"},
		{"shop", "\u00e9", "shop-_c3_a9-changelog"},
	} {
		if got := changelog.Topic(c.app, c.store); got != c.want {
			t.Errorf("Topic(%q, %q) = %q, want %q", c.app, c.store, got, c.want)
		}
	}
	if got := changelog.RepartitionTopic("shop", "by-customer"); got != "shop-by-customer-repartition" {
		t.Errorf("RepartitionTopic = %q", got)
	}
}

// TestTopicNamesDiffer looks for stores of one app that would share a topic, among names
// full of the characters that are escaped, and names that are cut.
func TestTopicNamesDiffer(t *testing.T) {
	name := rapid.OneOf(
		rapid.StringOfN(rapid.SampledFrom([]rune("a_2f/:-.5é")), 1, 8, -1),
		rapid.Map(rapid.StringOfN(rapid.SampledFrom([]rune("a_/")), 1, 6, -1), func(s string) string {
			return strings.Repeat("x", 240) + s
		}),
	)
	rapid.Check(t, func(t *rapid.T) {
		a, b := name.Draw(t, "a"), name.Draw(t, "b")
		ta, tb := changelog.Topic("app", a), changelog.Topic("app", b)
		if (a == b) != (ta == tb) {
			t.Fatalf("%q and %q give %q and %q", a, b, ta, tb)
		}
		if len(ta) > 249 {
			t.Fatalf("%q has %d characters", ta, len(ta))
		}
		if !regexp.MustCompile(`^[a-zA-Z0-9._-]+$`).MatchString(ta) {
			t.Fatalf("%q is no name of a topic", ta)
		}
		if changelog.RepartitionTopic("app", a) == tb {
			t.Fatalf("%q is changelog and repartition topic", tb)
		}
	})
}
