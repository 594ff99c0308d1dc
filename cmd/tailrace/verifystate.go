package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/tailrace/tailrace"
)

// errStateDiffers says that a member's state does not equal its changelogs.
var errStateDiffers = errors.New("the state does not equal the changelogs")

// verifyState asks a member of an app in Kafka mode, and prints what it says.
func (o *verifyFlags) verifyState(ctx context.Context, out io.Writer) error {
	base, err := url.Parse(o.app)
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" {
		err = errors.New("--app must be the member's address, such as http://127.0.0.1:8080")
	}
	if o.view != "" || o.sql != "" || o.sqlFile != "" || o.database != "" {
		err = errors.Join(err, errors.New("--state compares all state: leave out view, SQL and database"))
	}
	token, errToken := o.token()
	if err := errors.Join(err, errToken); err != nil {
		return inputError{err}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, base.JoinPath("verify", "state").String(), nil)
	if err != nil {
		return inputError{err}
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	var v tailrace.StateVerification
	body, err := o.ask(req, &v, "the app has no changelogs to compare its state with: "+
		"--state is for apps in Kafka mode; compare views with SQL (--view)")
	if err != nil {
		return err
	}
	return o.printState(out, body, &v)
}

func (o *verifyFlags) printState(out io.Writer, body []byte, v *tailrace.StateVerification) error {
	if o.json {
		if _, err := out.Write(body); err != nil {
			return err
		}
	} else {
		for _, d := range v.Differences {
			fmt.Fprintf(out, "%s: %s partition %d, key %s: %s\n", d.Task, d.Topic, d.Partition, d.Key, d.Kind)
		}
	}
	var differ int64
	for _, t := range v.Tasks {
		differ += t.Differences
		if !o.json {
			fmt.Fprintf(out, "task %s: %d keys, %d newer in the changelogs, differences %d\n", t.Task, t.Keys, t.Newer,
				t.Differences)
		}
	}
	if differ > 0 {
		return errStateDiffers
	}
	return nil
}
