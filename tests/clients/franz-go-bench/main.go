// Measures one client's produce and fetch: franz-go with its defaults, but for compression, which is off.
//
//	PROGRAM BOOTSTRAP create|paced|produce|fetch|delete TOPIC RECORDS RATE
//
// paced sends RATE records a second and consumes them meanwhile; produce and fetch go as fast as they can.
// It prints one JSON object. Records have 1 KB that does not compress.
package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/rand"
	"os"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	partitions  = 6
	recordBytes = 1024
	timeMax     = 60 * time.Second
)

type result struct {
	Seconds    float64 `json:"seconds"`
	Acked      *spread `json:"acked,omitempty"`
	EndToEnd   *spread `json:"end_to_end,omitempty"`
	Records    int     `json:"records"`
	OutOfOrder int     `json:"out_of_order"`
}

// spread is of latencies, in milliseconds.
type spread struct {
	P50 float64 `json:"p50_ms"`
	P99 float64 `json:"p99_ms"`
	Max float64 `json:"max_ms"`
}

func spreadOf(latencies []time.Duration) *spread {
	sort.Slice(latencies, func(i, j int) bool { return latencies[i] < latencies[j] })
	at := func(q float64) float64 {
		return latencies[int(q*float64(len(latencies)-1))].Seconds() * 1e3
	}
	return &spread{at(0.5), at(0.99), at(1)}
}

type bench struct {
	ctx       context.Context
	bootstrap []string
	topic     string
	records   int
	rate      int
}

func (b *bench) client(opts ...kgo.Opt) *kgo.Client {
	base := []kgo.Opt{
		kgo.SeedBrokers(b.bootstrap...),
		kgo.ClientID("bench"),
		kgo.DefaultProduceTopic(b.topic),
		kgo.ProducerBatchCompression(kgo.NoCompression()),
	}
	c, err := kgo.NewClient(append(base, opts...)...)
	check(err)
	return c
}

func main() {
	if len(os.Args) != 6 {
		fail("usage: PROGRAM BOOTSTRAP create|paced|produce|fetch|delete TOPIC RECORDS RATE")
	}
	records, err := strconv.Atoi(os.Args[4])
	check(err)
	rate, err := strconv.Atoi(os.Args[5])
	check(err)
	ctx, cancel := context.WithTimeout(context.Background(), timeMax)
	defer cancel()
	b := &bench{ctx, strings.Split(os.Args[1], ","), os.Args[3], records, rate}
	var r result
	switch os.Args[2] {
	case "create":
		b.create()
	case "paced":
		r = b.paced()
	case "produce":
		r = b.produce(0)
	case "fetch":
		r = b.fetch()
	case "delete":
		b.delete()
	default:
		fail("no such step: " + os.Args[2])
	}
	check(json.NewEncoder(os.Stdout).Encode(r))
}

func (b *bench) create() {
	c := b.client(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	defer c.Close()
	soon := "1000"
	configs := map[string]*string{"file.delete.delay.ms": &soon}
	created, err := kadm.NewClient(c).CreateTopics(b.ctx, partitions, 3, configs, b.topic)
	check(err)
	check(created[b.topic].Err)
	// Until every broker knows its leaders, the first records would wait.
	payload := make([]byte, recordBytes)
	for p := int32(0); p < partitions; p++ {
		check(c.ProduceSync(b.ctx, &kgo.Record{Partition: p, Value: payload}).FirstErr())
	}
}

func (b *bench) delete() {
	c := b.client()
	defer c.Close()
	deleted, err := kadm.NewClient(c).DeleteTopics(b.ctx, b.topic)
	check(err)
	check(deleted[b.topic].Err)
}

// produce sends all records: at a rate, or, if that is 0, as fast as the client takes them.
func (b *bench) produce(rate int) result {
	c := b.client()
	defer c.Close()
	check(c.Ping(b.ctx))
	random := make([]byte, recordBytes*64)
	rand.New(rand.NewSource(1)).Read(random)
	latencies := make([]time.Duration, b.records)
	var failed error
	var once sync.Once
	started := time.Now()
	for i := 0; i < b.records; i++ {
		if rate > 0 {
			due := started.Add(time.Duration(i) * time.Second / time.Duration(rate))
			if wait := time.Until(due); wait > 0 {
				time.Sleep(wait)
			}
		}
		at := (i % 64) * recordBytes
		value := append([]byte(nil), random[at:at+recordBytes]...)
		sent := time.Now()
		binary.BigEndian.PutUint64(value, uint64(sent.UnixNano()))
		i := i
		c.Produce(b.ctx, &kgo.Record{Value: value}, func(_ *kgo.Record, err error) {
			if err != nil {
				once.Do(func() { failed = err })
			}
			latencies[i] = time.Since(sent)
		})
	}
	check(c.Flush(b.ctx))
	seconds := time.Since(started).Seconds()
	check(failed)
	return result{Seconds: seconds, Records: b.records, Acked: spreadOf(latencies)}
}

func (b *bench) paced() result {
	started := make(chan struct{})
	consumed := make(chan []time.Duration)
	go b.follow(started, consumed)
	<-started
	r := b.produce(b.rate)
	r.EndToEnd = spreadOf(<-consumed)
	return r
}

// follow consumes what comes after it has started.
func (b *bench) follow(started chan<- struct{}, consumed chan<- []time.Duration) {
	c := b.client(kgo.ConsumeTopics(b.topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	defer c.Close()
	var latencies []time.Duration
	// create has left one record in each partition; when all have come, every partition is being consumed.
	before := partitions
	for len(latencies) < b.records {
		fetches := c.PollFetches(b.ctx)
		check(fetches.Err0())
		now := time.Now()
		fetches.EachRecord(func(record *kgo.Record) {
			if before > 0 {
				before--
				if before == 0 {
					close(started)
				}
				return
			}
			latencies = append(latencies, now.Sub(time.Unix(0, int64(binary.BigEndian.Uint64(record.Value)))))
		})
	}
	consumed <- latencies
}

// fetch reads that many records from the start on.
func (b *bench) fetch() result {
	c := b.client(kgo.ConsumeTopics(b.topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	defer c.Close()
	r := result{}
	next := map[int32]int64{}
	started := time.Now()
	for r.Records < b.records {
		fetches := c.PollFetches(b.ctx)
		check(fetches.Err0())
		fetches.EachRecord(func(record *kgo.Record) {
			if record.Offset < next[record.Partition] {
				r.OutOfOrder++
			}
			next[record.Partition] = record.Offset + 1
			r.Records++
		})
	}
	r.Seconds = time.Since(started).Seconds()
	return r
}

func check(err error) {
	if err != nil {
		fail(err.Error())
	}
}

func fail(what string) {
	fmt.Fprintln(os.Stderr, what)
	os.Exit(1)
}
