package view

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
)

// benchShop is a view of 100,000 rows on disk.
func benchShop(b *testing.B) (*engine, *table[int64, account]) {
	e := newEngineOn(b, onDisk(b), HostOptions{})
	tb := addView[int64, account](e, "accounts")
	for i := range int64(100_000) {
		tb.set(b, i, account{Cents: i})
	}
	e.commit()
	b.ReportAllocs()
	b.ResetTimer()
	return e, tb
}

// commitTen changes ten rows and commits them without a sync.
func commitTen(b *testing.B, e *engine, tb *table[int64, account], round int) {
	for i := range 10 {
		k := int64((round*10 + i) * 7919 % 100_000)
		tb.set(b, k, account{Cents: int64(round)})
	}
	e.commit()
}

// BenchmarkCommit is a commit of ten rows with its snapshot published; the difference
// to BenchmarkCommitUnpublished is what showing a commit to readers costs.
func BenchmarkCommit(b *testing.B) {
	e, tb := benchShop(b)
	for i := range b.N {
		commitTen(b, e, tb, i)
	}
}

func BenchmarkCommitUnpublished(b *testing.B) {
	e, tb := benchShop(b)
	e.silent = true
	for i := range b.N {
		commitTen(b, e, tb, i)
	}
}

// BenchmarkCommitWatched has one watcher that takes every epoch.
func BenchmarkCommitWatched(b *testing.B) {
	e, tb := benchShop(b)
	w, m, err := e.host.watch(b.Context(), tb.core)
	if err != nil {
		b.Fatal(err)
	}
	defer e.host.unwatch(w)
	m.snap.release()
	for i := range b.N {
		commitTen(b, e, tb, i)
		if ep, _, _ := w.take(); ep == nil {
			b.Fatal("no epoch")
		}
	}
}

// BenchmarkPublish is what showing a commit to readers costs by itself.
func BenchmarkPublish(b *testing.B) {
	e, _ := benchShop(b)
	for range b.N {
		e.publish(nil)
	}
}

func BenchmarkGet(b *testing.B) {
	_, tb := benchShop(b)
	for i := range b.N {
		if _, ok, _, err := tb.Get(context.Background(), int64(i*7919%100_000)); err != nil || !ok {
			b.Fatal(ok, err)
		}
	}
}

// BenchmarkHTTPPage reads pages of 100 rows through the handler.
func BenchmarkHTTPPage(b *testing.B) {
	e, _ := benchShop(b)
	h := Handler(e.host, HTTPOptions{})
	r := httptest.NewRequest(http.MethodGet, "/views/accounts?from=500&to=600", nil)
	for range b.N {
		rec := httptest.NewRecorder()
		if h.ServeHTTP(rec, r); rec.Code != 200 {
			b.Fatal(rec.Code)
		}
	}
}
