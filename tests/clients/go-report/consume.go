package report

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	closeTimeMax = 20 * time.Second
	errorsMax    = 200
	afterError   = 10 * time.Millisecond
	numberDigits = 11
)

// Consume is one member of a consumer group under load. What it prints is described in tests/clients/README.md.
type Consume struct {
	Bootstrap []string
	Topic     string
	Group     string
	ClientID  string

	member string

	// Whoever delivers waits for the mutex no longer than an append takes; printing happens outside.
	mu        sync.Mutex
	stopped   bool
	records   []delivered
	delivered int64
	errors    int64

	printing sync.Mutex
}

type delivered struct {
	n         int64
	partition int32
	offset    int64
	atUnixMs  float64
}

// Consumes says whether the command line asks for a member of a group instead of the scenario.
func Consumes() bool { return slices.Contains(os.Args, "--consume") }

// MainConsume consumes until it is told to stop, and exits. consume polls until its context is done, closes the library's
// consumer in its regular way, and returns; an error is why it ended before.
func MainConsume(client, modulePath string, consume func(context.Context, *Consume) error) {
	c := &Consume{}
	time.AfterFunc(loadTimeMax, func() { c.die("not stopped after 300 s") })
	c.arguments()
	version := moduleVersion(modulePath)
	c.ClientID = fmt.Sprintf("consume-%s-%s-%s", client, version, c.member)
	c.print(map[string]any{"client": client, "version": version, "member": c.member})
	go c.keepPrinting()
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- consume(ctx, c) }()
	select {
	case err := <-ended:
		if err != nil {
			c.Error(err)
		}
		c.done(true)
		os.Exit(1)
	case <-stopAsked():
	}
	c.mu.Lock()
	c.stopped = true
	c.mu.Unlock()
	stop()
	select {
	case <-ended:
		c.done(true)
	case <-time.After(closeTimeMax):
		c.done(false)
	}
	os.Exit(0)
}

func stopAsked() <-chan struct{} {
	asked := make(chan struct{})
	go func() {
		defer close(asked)
		lines := bufio.NewScanner(os.Stdin)
		for lines.Scan() && strings.TrimSpace(lines.Text()) != "stop" {
		}
	}()
	return asked
}

func (c *Consume) arguments() {
	usage := func(why string) {
		fmt.Fprintf(os.Stderr, "%s\nusage: %s BOOTSTRAP --consume --topic T --group G --member M --out json\n", why, os.Args[0])
		os.Exit(2)
	}
	if len(os.Args) < 2 || strings.HasPrefix(os.Args[1], "-") {
		usage("no bootstrap servers")
	}
	c.Bootstrap = strings.Split(os.Args[1], ",")
	flags := flag.NewFlagSet("consume", flag.ExitOnError)
	flags.Bool("consume", true, "consume a load")
	flags.String("out", "json", "the only way to print")
	flags.StringVar(&c.Topic, "topic", "", "an existing topic")
	flags.StringVar(&c.Group, "group", "", "the consumer group")
	flags.StringVar(&c.member, "member", "", "which of the group's members this is")
	_ = flags.Parse(os.Args[2:])
	if c.Topic == "" || c.Group == "" || c.member == "" {
		usage("topic, group and member are needed")
	}
}

// Delivered notes a record that the library has just handed over; at is when it did.
func (c *Consume) Delivered(partition int32, offset int64, value []byte, at time.Time) {
	n, err := int64(0), fmt.Errorf("too short")
	if len(value) >= numberDigits {
		n, err = strconv.ParseInt(string(value[:numberDigits]), 10, 64)
	}
	if err != nil {
		c.Error(fmt.Errorf("partition %d offset %d: no number: %w", partition, offset, err))
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.delivered++
	c.records = append(c.records, delivered{n, partition, offset, milliseconds(at)})
}

// Assigned notes all partitions that the member has from now on. No id and a negative generation are not known.
func (c *Consume) Assigned(partitions []int32, memberID string, generation int32) {
	line := map[string]any{"assigned": ordered(partitions), "at": milliseconds(time.Now()), "member_id": nil, "generation": nil}
	if memberID != "" {
		line["member_id"] = memberID
	}
	if generation >= 0 {
		line["generation"] = generation
	}
	c.tell(line)
}

// Revoked notes partitions that are taken from the member; lost says that it is no longer in the group.
func (c *Consume) Revoked(partitions []int32, lost bool) {
	line := map[string]any{"revoked": ordered(partitions), "at": milliseconds(time.Now())}
	if lost {
		line["lost"] = true
	} else if len(partitions) == 0 {
		return
	}
	c.tell(line)
}

// Error notes an error that reached the application.
func (c *Consume) Error(err error) {
	at := milliseconds(time.Now())
	c.mu.Lock()
	if c.stopped {
		c.mu.Unlock()
		return
	}
	c.errors++
	printed := c.errors <= errorsMax
	c.mu.Unlock()
	if printed {
		c.tell(map[string]any{"error": err.Error(), "at": at})
	}
}

// AfterError notes it, and waits for as long as an application waits before it polls again.
func (c *Consume) AfterError(ctx context.Context, err error) {
	c.Error(err)
	select {
	case <-ctx.Done():
	case <-time.After(afterError):
	}
}

func ordered(partitions []int32) []int32 {
	sorted := append([]int32{}, partitions...)
	slices.Sort(sorted)
	return sorted
}

func milliseconds(at time.Time) float64 { return float64(at.UnixMicro()) / 1e3 }

// tell prints what is printed only until the program is told to stop.
func (c *Consume) tell(line map[string]any) {
	c.mu.Lock()
	stopped := c.stopped
	c.mu.Unlock()
	if !stopped {
		c.print(line)
	}
}

func (c *Consume) done(closed bool) {
	c.flush()
	c.mu.Lock()
	line := map[string]any{"done": true, "delivered": c.delivered, "errors": c.errors, "closed": closed}
	// What comes later is not printed any more.
	c.records = nil
	c.mu.Unlock()
	c.print(line)
}

func (c *Consume) die(why string) {
	c.flush()
	fmt.Fprintln(os.Stderr, why)
	os.Exit(1)
}

func (c *Consume) keepPrinting() {
	for {
		time.Sleep(printEvery)
		c.flush()
	}
}

func (c *Consume) flush() {
	c.printing.Lock()
	defer c.printing.Unlock()
	c.mu.Lock()
	records := c.records
	c.records = nil
	c.mu.Unlock()
	if len(records) == 0 {
		return
	}
	line := []byte(`{"records":[`)
	for i, r := range records {
		if i > 0 {
			line = append(line, ',')
		}
		line = fmt.Appendf(line, "[%d,%d,%d,%.3f]", r.n, r.partition, r.offset, r.atUnixMs)
	}
	_, _ = os.Stdout.Write(append(line, "]}\n"...))
}

func (c *Consume) print(v map[string]any) {
	line, _ := json.Marshal(v)
	c.printing.Lock()
	defer c.printing.Unlock()
	_, _ = os.Stdout.Write(append(line, '\n'))
}
