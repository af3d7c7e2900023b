package report

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

// Copy is a job that copies a topic in transactions. What it prints is described in tests/clients/README.md.
type Copy struct {
	Bootstrap       []string
	From            string
	To              string
	Group           string
	TransactionalID string
	PerTransaction  int
	ClientID        string

	recordsMax int64

	mu           sync.Mutex
	stopped      bool
	unprinted    []transaction
	transactions int64
	copied       int64
	aborts       int64
	errors       int64

	printing sync.Mutex
}

type transaction struct {
	records  int
	tookMs   float64
	atUnixMs float64
}

// Copies says whether the command line asks for a copy job instead of the scenario.
func Copies() bool { return slices.Contains(os.Args, "--copy") }

// MainCopy copies until it is told to stop or everything is copied, and exits. copyAll ends when its context is done or Full is true,
// closes the library's client in its regular way, and returns; an error is one that the library calls fatal.
func MainCopy(client, modulePath string, copyAll func(context.Context, *Copy) error) {
	c := &Copy{}
	time.AfterFunc(loadTimeMax, func() {
		c.flush()
		fmt.Fprintln(os.Stderr, "not stopped after 300 s")
		os.Exit(1)
	})
	c.arguments()
	version := moduleVersion(modulePath)
	c.ClientID = fmt.Sprintf("copy-%s-%s", client, version)
	c.print(map[string]any{"client": client, "version": version})
	go func() {
		for {
			time.Sleep(printEvery)
			c.flush()
		}
	}()
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- copyAll(ctx, c) }()
	overdue := make(<-chan time.Time)
	asked := stopAsked()
	for {
		select {
		case <-asked:
			c.mu.Lock()
			c.stopped = true
			c.mu.Unlock()
			stop()
			asked, overdue = nil, time.After(closeTimeMax)
		case err := <-ended:
			if err != nil {
				c.print(map[string]any{"fatal": err.Error(), "at": milliseconds(time.Now())})
				c.done(1, false)
			}
			c.done(0, true)
		case <-overdue:
			c.done(0, false)
		}
	}
}

func (c *Copy) arguments() {
	usage := func(why string) {
		fmt.Fprintf(os.Stderr, "%s\nusage: %s BOOTSTRAP --copy --topic A --to B --group G --transactional-id X [--per-transaction R] [--records N] --out json\n", why, os.Args[0])
		os.Exit(2)
	}
	if len(os.Args) < 2 || strings.HasPrefix(os.Args[1], "-") {
		usage("no bootstrap servers")
	}
	c.Bootstrap = strings.Split(os.Args[1], ",")
	flags := flag.NewFlagSet("copy", flag.ExitOnError)
	flags.Bool("copy", true, "copy in transactions")
	flags.String("out", "json", "the only way to print")
	flags.StringVar(&c.From, "topic", "", "what is copied")
	flags.StringVar(&c.To, "to", "", "where to")
	flags.StringVar(&c.Group, "group", "", "the consumer group")
	flags.StringVar(&c.TransactionalID, "transactional-id", "", "the producer's")
	flags.IntVar(&c.PerTransaction, "per-transaction", 20, "at most so many records in a transaction")
	flags.Int64Var(&c.recordsMax, "records", math.MaxInt64, "ends when so many are copied")
	_ = flags.Parse(os.Args[2:])
	switch {
	case c.From == "" || c.To == "" || c.Group == "" || c.TransactionalID == "":
		usage("two topics, a group and a transactional id are needed")
	case c.PerTransaction < 1 || c.recordsMax < 1:
		usage("at least one record, and one per transaction")
	}
}

// Changed is a record's value as it is copied: each x becomes a y.
func Changed(value []byte) []byte { return bytes.ReplaceAll(value, []byte("x"), []byte("y")) }

// Full says whether as many records are copied as were asked for.
func (c *Copy) Full() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.copied >= c.recordsMax
}

// Committed notes a transaction that the library says was committed.
func (c *Copy) Committed(records int, began time.Time) {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.transactions++
	c.copied += int64(records)
	c.unprinted = append(c.unprinted, transaction{records, float64(now.Sub(began).Microseconds()) / 1e3, milliseconds(now)})
}

// Aborted notes that a transaction was aborted.
func (c *Copy) Aborted() {
	c.mu.Lock()
	c.aborts++
	c.mu.Unlock()
	c.print(map[string]any{"aborted": true, "at": milliseconds(time.Now())})
}

// Error notes an error that is not fatal, and waits a little.
func (c *Copy) Error(err error) {
	c.mu.Lock()
	c.errors++
	c.mu.Unlock()
	c.print(map[string]any{"error": err.Error(), "at": milliseconds(time.Now())})
	time.Sleep(afterError)
}

// Assigned notes all partitions that the consumer has from now on.
func (c *Copy) Assigned(partitions []int32, memberID string, generation int32) {
	c.tell(map[string]any{"assigned": ordered(partitions), "at": milliseconds(time.Now()), "member_id": memberID, "generation": generation})
}

// Revoked notes partitions that are taken from the consumer; lost says that it is no longer in the group.
func (c *Copy) Revoked(partitions []int32, lost bool) {
	line := map[string]any{"revoked": ordered(partitions), "at": milliseconds(time.Now())}
	if lost {
		line["lost"] = true
	}
	if lost || len(partitions) > 0 {
		c.tell(line)
	}
}

// tell prints what is printed only until the program is told to stop.
func (c *Copy) tell(line map[string]any) {
	c.mu.Lock()
	stopped := c.stopped
	c.mu.Unlock()
	if !stopped {
		c.print(line)
	}
}

func (c *Copy) done(status int, closed bool) {
	c.flush()
	c.mu.Lock()
	line := map[string]any{"done": true, "copied": c.copied, "transactions": c.transactions, "aborts": c.aborts, "errors": c.errors, "closed": closed}
	// What comes later is not printed any more.
	c.unprinted = nil
	c.mu.Unlock()
	c.print(line)
	os.Exit(status)
}

func (c *Copy) flush() {
	c.printing.Lock()
	defer c.printing.Unlock()
	c.mu.Lock()
	transactions := c.unprinted
	c.unprinted = nil
	c.mu.Unlock()
	if len(transactions) == 0 {
		return
	}
	line := []byte(`{"transactions":[`)
	for i, t := range transactions {
		if i > 0 {
			line = append(line, ',')
		}
		line = fmt.Appendf(line, "[%d,%.3f,%.3f]", t.records, t.tookMs, t.atUnixMs)
	}
	_, _ = os.Stdout.Write(append(line, "]}\n"...))
}

func (c *Copy) print(v map[string]any) {
	c.flush()
	line, _ := json.Marshal(v)
	c.printing.Lock()
	defer c.printing.Unlock()
	_, _ = os.Stdout.Write(append(line, '\n'))
}
