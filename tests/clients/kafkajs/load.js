// A producing load with kafkajs: its defaults, which are acks=all, no idempotence, any number of requests in flight, 5 retries.
// Each record is a send() of its own, as in a service that answers requests; they run concurrently.
// What it prints is described in tests/clients/README.md.
'use strict'

const readline = require('readline')
const { parseArgs } = require('util')
const { Kafka, logLevel } = require('kafkajs')
const { version } = require('kafkajs/package.json')

const LOAD_TIME_MAX_MS = 300_000
const DRAIN_TIME_MAX_MS = 20_000
const PRINT_EVERY_MS = 50
const PACE_MS = 2
const WARM_AGAIN_MS = 200
const VALUE_BYTES = 100

const sleep = ms => new Promise(resolve => setTimeout(resolve, ms))
const thousandths = ms => Math.round(ms * 1000) / 1000
const print = line => process.stdout.write(JSON.stringify(line) + '\n')

function readArguments() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      load: { type: 'boolean' },
      topic: { type: 'string' },
      partitions: { type: 'string', default: '24' },
      rate: { type: 'string', default: '200' },
      keys: { type: 'string', default: '240' },
      idempotent: { type: 'boolean' },
      plain: { type: 'boolean' },
      out: { type: 'string' },
    },
  })
  const [partitions, rate, keys] = [values.partitions, values.rate, values.keys].map(Number)
  if (positionals.length !== 1 || !values.topic) throw new Error('one list of bootstrap servers and a topic are needed')
  if (![partitions, rate, keys].every(n => Number.isInteger(n) && n >= 1) || keys % partitions !== 0) {
    throw new Error('rate, partitions and keys are at least 1, and keys a multiple of partitions')
  }
  if (values.idempotent && values.plain) throw new Error('both --idempotent and --plain')
  return { ...values, bootstrap: positionals[0], partitions, rate, keys }
}

let load
try {
  load = readArguments()
} catch (e) {
  console.error(`${e.message}\nusage: load.js BOOTSTRAP --load --topic T [--partitions P] [--rate R] [--keys K] [--idempotent | --plain] --out json`)
  process.exit(2)
}

let [sent, acked, errors, outstanding] = [0, 0, 0, 0]
let acks = []
let stopping = false
const warm = new Set()

function flush() {
  if (acks.length > 0) print({ acks })
  acks = []
}

// The program ends when everything is written, and without closing the client: that may wait for brokers that are gone.
function end(status) {
  process.stdout.write('', () => process.exit(status))
}

async function send(producer, n, due) {
  const key = n % load.keys
  const partition = key % load.partitions
  const value = `${String(n).padStart(11, '0')} `.padEnd(VALUE_BYTES, 'x')
  outstanding++
  try {
    await producer.send({ topic: load.topic, acks: -1, messages: [{ partition, key: String(key), value }] })
    acked++
    warm.add(partition)
    acks.push([n, partition, thousandths(performance.now() - due), thousandths(performance.timeOrigin + performance.now())])
  } catch (e) {
    errors++
    print({ error: String(e), n, at: thousandths(performance.timeOrigin + performance.now()) })
  }
  outstanding--
}

async function drive(producer) {
  while (warm.size < load.partitions && !stopping) {
    for (let i = 0; i < load.partitions; i++) send(producer, sent++, performance.now())
    do await sleep(warm.size < load.partitions && outstanding === 0 ? WARM_AGAIN_MS : PACE_MS)
    while (outstanding > 0 && warm.size < load.partitions && !stopping)
  }
  if (stopping) return
  print({ ready: true })
  const first = sent
  const start = performance.now()
  while (!stopping) {
    for (;;) {
      const due = start + ((sent - first) * 1000) / load.rate
      if (due > performance.now()) break
      send(producer, sent++, due)
    }
    await sleep(PACE_MS)
  }
}

async function main() {
  print({ client: 'kafkajs', version })
  setTimeout(() => {
    flush()
    console.error('not stopped after 300 s')
    end(1)
  }, LOAD_TIME_MAX_MS)
  setInterval(flush, PRINT_EVERY_MS)
  // Nobody reads any more.
  process.stdout.on('error', () => process.exit(1))
  const input = readline.createInterface({ input: process.stdin })
  input.on('line', line => {
    if (line.trim() === 'stop') stopping = true
  })
  input.on('close', () => {
    stopping = true
  })
  const kafka = new Kafka({ clientId: `load-kafkajs-${version}`, brokers: load.bootstrap.split(','), logLevel: logLevel.NOTHING })
  const idempotence = load.idempotent || load.plain ? { idempotent: Boolean(load.idempotent) } : {}
  const producer = kafka.producer(idempotence)
  await producer.connect()
  await drive(producer)
  const until = performance.now() + DRAIN_TIME_MAX_MS
  while (outstanding > 0 && performance.now() < until) await sleep(PACE_MS)
  flush()
  print({ done: true, sent, acked, errors })
  end(0)
}

main().catch(e => {
  flush()
  console.error(String(e))
  end(1)
})
