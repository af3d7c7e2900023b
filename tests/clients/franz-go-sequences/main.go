// A steady load through franz-go with its defaults (but for compression, which is off), and commands while it runs.
//
//	PROGRAM -bootstrap HOST:PORT,… -topic TOPIC [-rate 200] [-keyed] [-debug]
//
// Records are numbered from 0; a record's value is its number. Keyed records go round a fixed set of keys.
// Commands, one per line on standard input: `refresh` asks for metadata at once (Client.ForceMetadataRefresh), `stop`
// ends producing; what is unsettled is waited for. At the end of standard input the program ends at once.
//
// It prints one JSON object per record that is settled, and a last one:
//
//	{"record": 17, "partition": 2, "us": 613}                   acknowledged
//	{"record": 18, "partition": -1, "us": 12, "error": "…"}     given up
//	{"sent": 400, "unsettled": 0}
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	keys      = 32
	settleMax = 25 * time.Second
	showEvery = 20 * time.Millisecond
)

type settled struct {
	Record    int    `json:"record"`
	Partition int32  `json:"partition"`
	Us        int64  `json:"us"`
	Error     string `json:"error,omitempty"`
}

type last struct {
	Sent      int `json:"sent"`
	Unsettled int `json:"unsettled"`
}

// printer writes lines, and shows them every now and then.
type printer struct {
	mu    sync.Mutex
	out   *bufio.Writer
	count int
}

func (p *printer) settle(line settled) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.count++
	check(json.NewEncoder(p.out).Encode(line))
}

func (p *printer) end(sent int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	check(json.NewEncoder(p.out).Encode(last{Sent: sent, Unsettled: sent - p.count}))
	check(p.out.Flush())
}

func (p *printer) show() {
	for range time.Tick(showEvery) {
		p.mu.Lock()
		check(p.out.Flush())
		p.mu.Unlock()
	}
}

func main() {
	bootstrap := flag.String("bootstrap", "", "addresses, separated by commas")
	topic := flag.String("topic", "", "where to produce")
	rate := flag.Int("rate", 200, "records per second")
	keyed := flag.Bool("keyed", false, "records have keys")
	debug := flag.Bool("debug", false, "the library's log on standard error")
	flag.Parse()

	opts := []kgo.Opt{
		kgo.SeedBrokers(strings.Split(*bootstrap, ",")...),
		kgo.ClientID("sequences"),
		kgo.DefaultProduceTopic(*topic),
		// The simulated cluster opens no compressed batch.
		kgo.ProducerBatchCompression(kgo.NoCompression()),
	}
	if *debug {
		stamp := func() string { return time.Now().Format("15:04:05.000 ") }
		opts = append(opts, kgo.WithLogger(kgo.BasicLogger(os.Stderr, kgo.LogLevelDebug, stamp)))
	}
	client, err := kgo.NewClient(opts...)
	check(err)

	out := &printer{out: bufio.NewWriterSize(os.Stdout, 1<<20)}
	go out.show()
	stop := make(chan struct{})
	go obey(client, stop)
	sent := produce(client, out, stop, *rate, *keyed)
	ctx, cancel := context.WithTimeout(context.Background(), settleMax)
	defer cancel()
	// Whatever it says: what is unsettled is counted.
	_ = client.Flush(ctx)
	out.end(sent)
}

func obey(client *kgo.Client, stop chan<- struct{}) {
	commands := bufio.NewScanner(os.Stdin)
	for commands.Scan() {
		switch command := commands.Text(); command {
		case "refresh":
			client.ForceMetadataRefresh()
		case "stop":
			close(stop)
		default:
			check(fmt.Errorf("no such command: %q", command))
		}
	}
	os.Exit(1)
}

// produce sends records at a rate until it is stopped; how many.
func produce(client *kgo.Client, out *printer, stop <-chan struct{}, rate int, keyed bool) int {
	started := time.Now()
	for n := 0; ; n++ {
		due := started.Add(time.Duration(n) * time.Second / time.Duration(rate))
		select {
		case <-stop:
			return n
		case <-time.After(time.Until(due)):
		}
		n := n
		record := &kgo.Record{Value: []byte(strconv.Itoa(n))}
		if keyed {
			record.Key = []byte("key-" + strconv.Itoa(n%keys))
		}
		sent := time.Now()
		client.Produce(context.Background(), record, func(record *kgo.Record, err error) {
			line := settled{Record: n, Partition: record.Partition, Us: time.Since(sent).Microseconds()}
			if err != nil {
				line.Error = err.Error()
			}
			out.settle(line)
		})
	}
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
