package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"text/tabwriter"
	"time"
)

// result is one run of one case. What wasn't measured is zero and shown as a dash.
type result struct {
	Workload string `json:"workload"`
	// Case names what distinguishes it from the workload's other cases.
	Case string `json:"case"`
	// Records is how many changes, rows or messages were processed.
	Records int64         `json:"records"`
	Wall    time.Duration `json:"wall_ns"`
	// CPU and PeakRSS are of this process; other processes' are in OtherCPU.
	CPU     time.Duration `json:"cpu_ns"`
	PeakRSS int64         `json:"peak_rss_bytes"`
	// OtherCPU is the CPU time of the server's process that serves the run.
	OtherCPU time.Duration `json:"other_cpu_ns,omitempty"`
	P50      time.Duration `json:"p50_ns,omitempty"`
	P99      time.Duration `json:"p99_ns,omitempty"`
	// Steps is the part of Wall that steps took, without commits.
	Steps time.Duration `json:"steps_ns,omitempty"`
	// Allocs is allocations per record in steps, CommitAllocs those of commits; nil where
	// they weren't counted.
	Allocs       *float64 `json:"allocs_per_record,omitempty"`
	CommitAllocs *float64 `json:"commit_allocs_per_record,omitempty"`
}

// perSecond is records per second of wall time.
func (r *result) perSecond() float64 { return float64(r.Records) / r.Wall.Seconds() }

// cpuPerMillion is CPU-seconds of this process per million records.
func (r *result) cpuPerMillion() float64 { return perMillion(r.CPU, r.Records) }

func perMillion(d time.Duration, records int64) float64 {
	return d.Seconds() * 1e6 / float64(max(records, 1))
}

// report collects the results of one workload.
type report struct {
	workload string
	jsonPath string
	results  []result
}

func (r *report) add(x result) {
	x.Workload = r.workload
	r.results = append(r.results, x)
}

// cases are the results by case, in the order in which the cases came.
func (r *report) cases() [][]result {
	var groups [][]result
	at := make(map[string]int)
	for _, x := range r.results {
		i, found := at[x.Case]
		if !found {
			i = len(groups)
			at[x.Case] = i
			groups = append(groups, nil)
		}
		groups[i] = append(groups[i], x)
	}
	return groups
}

// print writes a table of medians, each over the runs of a case by itself, and appends
// the single runs to the JSON file.
func (r *report) print(out io.Writer) error {
	if len(r.results) == 0 {
		return nil
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table,
		"workload\tcase\truns\trecords\trecords/s\tspread\tcpu-s/M\tserver cpu-s/M\tpeak MB\t"+
			"p50 ms\tp99 ms\tstep ns\tallocs\tcommit allocs\t")
	for _, runs := range r.cases() {
		rates := sorted(runs, func(x result) float64 { return x.perSecond() })
		fmt.Fprintf(table, "%s\t%s\t%d\t%d\t%.0f\t%.0f-%.0f\t%.3f\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t\n",
			r.workload, runs[0].Case, len(runs), runs[0].Records,
			middle(rates), rates[0], rates[len(rates)-1],
			median(runs, func(x result) float64 { return x.cpuPerMillion() }),
			dash("%.3f", median(runs, func(x result) float64 { return perMillion(x.OtherCPU, x.Records) })),
			dash("%.0f", median(runs, func(x result) float64 { return float64(x.PeakRSS) / 1e6 })),
			dash("%.2f", median(runs, func(x result) float64 { return milliseconds(x.P50) })),
			dash("%.2f", median(runs, func(x result) float64 { return milliseconds(x.P99) })),
			dash("%.0f", median(runs, func(x result) float64 { return float64(x.Steps) / float64(x.Records) })),
			allocs(runs, func(x result) *float64 { return x.Allocs }),
			allocs(runs, func(x result) *float64 { return x.CommitAllocs }))
	}
	return errors.Join(table.Flush(), r.appendJSON())
}

func (r *report) appendJSON() error {
	if r.jsonPath == "" {
		return nil
	}
	file, err := os.OpenFile(r.jsonPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	encoder := json.NewEncoder(file)
	for _, x := range r.results {
		err = errors.Join(err, encoder.Encode(x))
	}
	return errors.Join(err, file.Close())
}

func median(runs []result, value func(result) float64) float64 { return middle(sorted(runs, value)) }

func sorted(runs []result, value func(result) float64) []float64 {
	values := make([]float64, len(runs))
	for i, x := range runs {
		values[i] = value(x)
	}
	slices.Sort(values)
	return values
}

// middle is the median of sorted values.
func middle(values []float64) float64 {
	n := len(values)
	return (values[(n-1)/2] + values[n/2]) / 2
}

// quantile is the smallest of the durations that at least the fraction q of them don't
// exceed, to within one place. It sorts them.
func quantile[D cmp.Ordered](values []D, q float64) D {
	var zero D
	if len(values) == 0 {
		return zero
	}
	slices.Sort(values)
	return values[min(len(values)-1, int(q*float64(len(values))))]
}

// allocs is the median of allocations per record; 0 of them is worth showing.
func allocs(runs []result, of func(result) *float64) string {
	if of(runs[0]) == nil {
		return "-"
	}
	return fmt.Sprintf("%.3f", median(runs, func(x result) float64 { return *of(x) }))
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func dash(format string, value float64) string {
	if value == 0 {
		return "-"
	}
	return fmt.Sprintf(format, value)
}
