package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/tailrace/tailrace/view"
)

func restartFlags(flags *flag.FlagSet) runner {
	rows := flags.Int("rows", 1_000_000, "keys of the view")
	return func(ctx context.Context, env *environment) error { return restart(ctx, env, *rows) }
}

// restart kills an app in another process while it works through changes, and measures
// from the start of the next process until it has read a row of its view.
func restart(ctx context.Context, env *environment, rows int) error {
	shop, err := newShop(ctx, env)
	if err != nil {
		return err
	}
	defer shop.close()
	err = shop.exec(ctx, fmt.Sprintf(`INSERT INTO orders SELECT i, i %% 10000, 'paid', i, '2026-01-01', 'first'
		FROM generate_series(1000, %d) i`, max(rows-1, 1000)),
		fmt.Sprintf("UPDATE shop_state SET next_order = %d", max(rows, 1001)))
	if err != nil {
		return err
	}
	dir, remove, err := stateDir()
	if err != nil {
		return err
	}
	defer remove()
	c, err := startChild(ctx, shop.url, dir)
	if err != nil {
		return err
	}
	for range env.runs {
		if err := shop.work(ctx, 500, 20); err != nil {
			return err
		}
		c.kill()
		begun := time.Now()
		if c, err = startChild(ctx, shop.url, dir); err != nil {
			return err
		}
		r := result{Case: fmt.Sprintf("%d keys", rows), Records: int64(rows), Wall: time.Since(begun)}
		r.P50, r.P99 = r.Wall, r.Wall
		if r.CPU, r.PeakRSS, err = c.usage(); err != nil {
			return err
		}
		env.report.add(r)
		fmt.Fprintf(env.out, "  readable after %d ms\n", r.Wall.Milliseconds())
		if err := c.verify(); err != nil {
			return err
		}
	}
	c.kill()
	return nil
}

// child is an app in a process of its own, which is this program again.
type child struct {
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines *bufio.Scanner
	first string
}

// childVariable tells this program to be a child; its value is the database's URL.
const childVariable = "TAILRACE_BENCH_CHILD"

// startChild starts the app and waits until it has read a row of its view.
func startChild(ctx context.Context, url, dir string) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := &child{cmd: exec.CommandContext(ctx, self, dir)}
	c.cmd.Env = append(os.Environ(), childVariable+"="+url)
	c.cmd.Stderr = os.Stderr
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.lines = bufio.NewScanner(out)
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	c.first, err = c.line("ready ")
	if err != nil {
		c.kill()
	}
	return c, err
}

// line reads the child's next line, which has to begin with a word.
func (c *child) line(prefix string) (string, error) {
	if !c.lines.Scan() {
		return "", errors.Join(errors.New("the child has ended"), c.lines.Err())
	}
	rest, ok := strings.CutPrefix(c.lines.Text(), prefix)
	if !ok {
		return "", fmt.Errorf("the child says %q", c.lines.Text())
	}
	return rest, nil
}

// usage is what the child had used when it was ready.
func (c *child) usage() (cpu time.Duration, peak int64, err error) {
	nanoseconds, bytes, _ := strings.Cut(c.first, " ")
	n, err := strconv.ParseInt(nanoseconds, 10, 64)
	if err != nil {
		return 0, 0, err
	}
	peak, err = strconv.ParseInt(bytes, 10, 64)
	return time.Duration(n), peak, err
}

func (c *child) verify() error {
	if _, err := fmt.Fprintln(c.in, "verify"); err != nil {
		return err
	}
	_, err := c.line("equal")
	return err
}

// kill ends the process as a power cut would.
func (c *child) kill() {
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait()
}

// childMain is the child: it runs the app over a state directory, says when its view can
// be read, and verifies when asked to.
func childMain(ctx context.Context, url, dir string) error {
	topo, v, err := linesTopology(connector(url, "bench_restart"))
	if err != nil {
		return err
	}
	app, err := startApp(ctx, dir, topo)
	if err != nil {
		return err
	}
	if err := app.ready(ctx); err != nil {
		return err
	}
	rows := 0
	span := v.Range(ctx, view.All[int64]())
	for range span.All() {
		rows++
		break
	}
	if err := span.Err(); err != nil || rows == 0 {
		return errors.Join(fmt.Errorf("%d rows in the view", rows), err)
	}
	fmt.Printf("ready %d %d\n", processCPU().Nanoseconds(), peakRSS())
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		if err := app.verify(ctx, linesChecks...); err != nil {
			return err
		}
		fmt.Println("equal")
	}
	return app.close()
}
