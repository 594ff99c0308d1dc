package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/spf13/cobra"
)

// errDiffer says that a view does not equal its SQL.
var errDiffer = errors.New("the view does not equal the SQL")

type verifyFlags struct {
	app, view, database, sql, sqlFile, tokenFile string
	json, state                                  bool
}

func newVerify() *cobra.Command {
	var o verifyFlags
	c := &cobra.Command{
		Use:   "verify",
		Short: "Compare a view of a running app with SQL, at one position of the log",
		Long: `Asks a running app to compare one of its views with the result of a query in the source
database, both as of exactly the same position of the database's log, while everything goes
on. Each row that differs is printed; the exit status is then 1.

The app must allow it: tailrace.Config{Addr: ..., VerifySQL: true}. The query runs with the
app's rights in a read-only transaction. Its columns have the names of the view's: those of
key and value, or "key" and "value" where these are no structs.

With --state a member of an app in Kafka mode compares the state of its tasks with their
changelogs, key by key. Ask each member: it knows its own tasks alone.`,
		Example: `  tailrace verify --app http://127.0.0.1:8080 --view revenue --sql "
    SELECT c.name AS key, count(*) AS orders, sum(o.cents) AS cents
    FROM orders o JOIN customers c ON c.id = o.customer_id
    WHERE o.status = 'paid' GROUP BY c.name"`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if o.state {
				return o.verifyState(c.Context(), c.OutOrStdout())
			}
			return o.verify(c.Context(), c.OutOrStdout())
		},
	}
	f := c.Flags()
	f.StringVar(&o.app, "app", "", "where the app serves its views, such as http://127.0.0.1:8080")
	f.StringVar(&o.view, "view", "", "the view's name")
	f.StringVar(&o.database, "database", "", "the source database's name, where the app reads several")
	f.StringVar(&o.sql, "sql", "", "the query")
	f.StringVar(&o.sqlFile, "sql-file", "", "a file with the query, - for standard input")
	f.StringVar(&o.tokenFile, "token-file", "", "a file with the app's token (or set TAILRACE_TOKEN)")
	f.BoolVar(&o.state, "state", false, "in Kafka mode: compare the member's state with its changelogs instead")
	f.BoolVar(&o.json, "json", false, "print the app's answer as it is")
	return c
}

// verification is the app's answer.
type verification struct {
	View, Database, Position string
	ViewRows                 int `json:"view_rows"`
	SQLRows                  int `json:"sql_rows"`
	Differences              []struct {
		Key, View, SQL string
		Columns        []string
	}
}

func (o *verifyFlags) verify(ctx context.Context, out io.Writer) error {
	req, err := o.request(ctx)
	if err != nil {
		return inputError{err}
	}
	var v verification
	body, err := o.ask(req, &v, "the app does not verify: set VerifySQL in its tailrace.Config")
	if err != nil {
		return err
	}
	if o.json {
		if _, err := out.Write(body); err != nil {
			return err
		}
	} else {
		v.print(out)
	}
	if len(v.Differences) > 0 {
		return errDiffer
	}
	return nil
}

// ask sends a request to the app and decodes its answer into v. absent is what to say of an
// app that does not know the request.
func (o *verifyFlags) ask(req *http.Request, v any, absent string) (body []byte, err error) {
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, environmentError{fmt.Errorf("the app cannot be reached: %w", err)}
	}
	defer res.Body.Close()
	if body, err = io.ReadAll(res.Body); err != nil {
		return nil, environmentError{fmt.Errorf("the app's answer: %w", err)}
	}
	if res.StatusCode == http.StatusOK {
		if err := json.Unmarshal(body, v); err != nil {
			return nil, environmentError{fmt.Errorf("%s does not answer as an app does: %w", o.app, err)}
		}
		return body, nil
	}
	var refused struct{ Message string }
	_ = json.Unmarshal(body, &refused) // without a message the status says enough
	switch res.StatusCode {
	case http.StatusBadRequest:
		return nil, inputError{errors.New(refused.Message)}
	case http.StatusNotFound, http.StatusMethodNotAllowed:
		return nil, environmentError{errors.New(absent)}
	case http.StatusUnauthorized:
		return nil, environmentError{errors.New("the app asks for its token: use --token-file or TAILRACE_TOKEN")}
	}
	return nil, environmentError{fmt.Errorf("the app answers %s: %s", res.Status, refused.Message)}
}

func (v *verification) print(out io.Writer) {
	for _, d := range v.Differences {
		switch {
		case d.View == "":
			fmt.Fprintf(out, "only in SQL:      %s\n", d.SQL)
		case d.SQL == "":
			fmt.Fprintf(out, "only in the view: %s\n", d.View)
		default:
			fmt.Fprintf(out, "differs in %s:\n  view %s\n  SQL  %s\n", strings.Join(d.Columns, ", "), d.View, d.SQL)
		}
	}
	fmt.Fprintf(out, "view %s at %s of %s: %d rows, SQL %d rows, differences %d\n", v.View, v.Position,
		v.Database,
		v.ViewRows, v.SQLRows, len(v.Differences))
}

// request reports everything that is wrong with the flags.
func (o *verifyFlags) request(ctx context.Context) (*http.Request, error) {
	var errs []error
	base, err := url.Parse(o.app)
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" {
		errs = append(errs, errors.New("--app must be the app's address, such as http://127.0.0.1:8080"))
	}
	if o.view == "" {
		errs = append(errs, errors.New("--view must name a view"))
	}
	query, err := o.query()
	token, errToken := o.token()
	if errs = append(errs, err, errToken); errors.Join(errs...) != nil {
		return nil, errors.Join(errs...)
	}
	body, err := json.Marshal(map[string]string{"view": o.view, "database": o.database, "sql": query})
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, base.JoinPath("verify").String(),
		bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	return req, nil
}

func (o *verifyFlags) query() (string, error) {
	if (o.sql == "") == (o.sqlFile == "") {
		return "", errors.New("give the query with either --sql or --sql-file")
	}
	switch o.sqlFile {
	case "":
		return o.sql, nil
	case "-":
		text, err := io.ReadAll(os.Stdin)
		return string(text), err
	}
	text, err := os.ReadFile(o.sqlFile)
	return string(text), err
}

func (o *verifyFlags) token() (string, error) {
	if o.tokenFile == "" {
		return os.Getenv("TAILRACE_TOKEN"), nil
	}
	text, err := os.ReadFile(o.tokenFile)
	return strings.TrimSpace(string(text)), err
}
