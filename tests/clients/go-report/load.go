package report

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	loadTimeMax  = 300 * time.Second
	drainTimeMax = 20 * time.Second
	printEvery   = 50 * time.Millisecond
	warmAgain    = 200 * time.Millisecond
	valueBytes   = 100
)

// Load is a producer under constant load. What it prints is described in tests/clients/README.md.
type Load struct {
	Bootstrap  []string
	Topic      string
	ClientID   string
	Idempotent bool // --idempotent was given
	Plain      bool // --plain was given; with neither, the library's default holds

	partitions, rate, keys int

	produce  func(Record)
	stopping chan struct{}
	stopOnce sync.Once

	// No callback of a library waits for the mutex longer than an append takes; printing happens outside.
	mu     sync.Mutex
	due    map[int64]time.Time
	acks   []ack
	warm   map[int]bool
	ready  chan struct{}
	sent   int64
	acked  int64
	errors int64

	printing sync.Mutex
}

// Record is what the library is to produce; N belongs into its callback.
type Record struct {
	N         int64
	Key       []byte
	Value     []byte
	Partition int32
}

type ack struct {
	n         int64
	partition int
	latencyMs float64
	atUnixMs  float64
}

// Loads says whether the command line asks for a load instead of the scenario.
func Loads() bool { return slices.Contains(os.Args, "--load") }

// MainLoad produces until it is told to stop, and exits. start connects the library and returns how to hand it a record.
func MainLoad(client, modulePath string, start func(*Load) (func(Record), error)) {
	l := &Load{
		stopping: make(chan struct{}),
		due:      map[int64]time.Time{},
		warm:     map[int]bool{},
		ready:    make(chan struct{}),
	}
	time.AfterFunc(loadTimeMax, func() { l.die("not stopped after 300 s") })
	version := moduleVersion(modulePath)
	l.ClientID = fmt.Sprintf("load-%s-%s", client, version)
	l.arguments()
	l.print(map[string]any{"client": client, "version": version})
	go l.awaitStop()
	go l.keepPrinting()
	produce, err := start(l)
	if err != nil {
		l.die(err.Error())
	}
	l.produce = produce
	go l.drive()
	<-l.stopping
	l.drain()
}

func (l *Load) arguments() {
	if len(os.Args) < 2 || strings.HasPrefix(os.Args[1], "-") {
		usage("no bootstrap servers")
	}
	l.Bootstrap = strings.Split(os.Args[1], ",")
	flags := flag.NewFlagSet("load", flag.ExitOnError)
	flags.Bool("load", true, "produce a load")
	flags.String("out", "json", "the only way to print")
	flags.StringVar(&l.Topic, "topic", "", "an existing topic")
	flags.IntVar(&l.partitions, "partitions", 24, "its partitions")
	flags.IntVar(&l.rate, "rate", 200, "records a second")
	flags.IntVar(&l.keys, "keys", 240, "different keys")
	flags.BoolVar(&l.Idempotent, "idempotent", false, "with idempotence")
	flags.BoolVar(&l.Plain, "plain", false, "without idempotence")
	_ = flags.Parse(os.Args[2:])
	switch {
	case l.Topic == "":
		usage("no topic")
	case l.partitions < 1 || l.rate < 1 || l.keys < 1 || l.keys%l.partitions != 0:
		usage("rate, partitions and keys are at least 1, and keys a multiple of partitions")
	case l.Idempotent && l.Plain:
		usage("both --idempotent and --plain")
	}
}

func usage(why string) {
	fmt.Fprintf(os.Stderr, "%s\nusage: %s BOOTSTRAP --load --topic T [--partitions P] [--rate R] [--keys K] [--idempotent | --plain] --out json\n", why, os.Args[0])
	os.Exit(2)
}

// drive warms up, one record for each partition, and then produces each record when it is due, however long others take.
func (l *Load) drive() {
	next := int64(0)
	for {
		for i := 0; i < l.partitions; i++ {
			l.send(next, time.Now())
			next++
		}
		if l.warmed() {
			break
		}
	}
	l.print(map[string]any{"ready": true})
	start := time.Now()
	for i := int64(0); ; i++ {
		due := start.Add(time.Duration(i) * time.Second / time.Duration(l.rate))
		select {
		case <-l.stopping:
			return
		case <-time.After(time.Until(due)):
			l.send(next, due)
			next++
		}
	}
}

// warmed waits for what is outstanding, and says whether each partition has acknowledged a record.
func (l *Load) warmed() bool {
	for {
		select {
		case <-l.ready:
			return true
		case <-l.stopping:
			select {} // drain ends the program.
		case <-time.After(warmAgain):
			if l.outstanding() == 0 {
				return false
			}
		}
	}
}

func (l *Load) send(n int64, due time.Time) {
	key := n % int64(l.keys)
	value := fmt.Appendf(make([]byte, 0, valueBytes), "%011d ", n)
	for len(value) < valueBytes {
		value = append(value, 'x')
	}
	l.mu.Lock()
	l.due[n] = due
	l.sent++
	l.mu.Unlock()
	l.produce(Record{N: n, Key: fmt.Appendf(nil, "%d", key), Value: value, Partition: int32(key % int64(l.partitions))})
}

// Done notes what became of a record; the first word counts.
func (l *Load) Done(n int64, err error) {
	now := time.Now()
	at := float64(now.UnixMicro()) / 1e3
	l.mu.Lock()
	due, outstanding := l.due[n]
	if !outstanding {
		l.mu.Unlock()
		return
	}
	delete(l.due, n)
	if err != nil {
		l.errors++
		l.mu.Unlock()
		l.print(map[string]any{"error": err.Error(), "n": n, "at": at})
		return
	}
	l.acked++
	partition := int(n%int64(l.keys)) % l.partitions
	l.acks = append(l.acks, ack{n, partition, float64(now.Sub(due).Microseconds()) / 1e3, at})
	if len(l.warm) < l.partitions {
		l.warm[partition] = true
		if len(l.warm) == l.partitions {
			close(l.ready)
		}
	}
	l.mu.Unlock()
}

func (l *Load) outstanding() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.due)
}

func (l *Load) awaitStop() {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() && strings.TrimSpace(lines.Text()) != "stop" {
	}
	l.stopOnce.Do(func() { close(l.stopping) })
}

func (l *Load) drain() {
	until := time.Now().Add(drainTimeMax)
	for l.outstanding() > 0 && time.Now().Before(until) {
		time.Sleep(printEvery / 5)
	}
	l.flush()
	l.mu.Lock()
	done := map[string]any{"done": true, "sent": l.sent, "acked": l.acked, "errors": l.errors}
	l.mu.Unlock()
	l.print(done)
	// A library's own way of closing may wait for brokers that are gone.
	os.Exit(0)
}

func (l *Load) die(why string) {
	l.flush()
	fmt.Fprintln(os.Stderr, why)
	os.Exit(1)
}

func (l *Load) keepPrinting() {
	for {
		time.Sleep(printEvery)
		l.flush()
	}
}

func (l *Load) flush() {
	l.printing.Lock()
	defer l.printing.Unlock()
	l.mu.Lock()
	acks := l.acks
	l.acks = nil
	l.mu.Unlock()
	if len(acks) == 0 {
		return
	}
	line := []byte(`{"acks":[`)
	for i, a := range acks {
		if i > 0 {
			line = append(line, ',')
		}
		line = fmt.Appendf(line, "[%d,%d,%.3f,%.3f]", a.n, a.partition, a.latencyMs, a.atUnixMs)
	}
	_, _ = os.Stdout.Write(append(line, "]}\n"...))
}

func (l *Load) print(v map[string]any) {
	line, _ := json.Marshal(v)
	l.printing.Lock()
	defer l.printing.Unlock()
	_, _ = os.Stdout.Write(append(line, '\n'))
}
