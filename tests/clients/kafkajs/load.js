// A producing load with kafkajs: its defaults, which are acks=all, no idempotence, any number of requests in flight, 5 retries.
// Each record is a send() of its own, as in a service that answers requests; they run concurrently.
// What it prints is described in tests/clients/README.md.
'use strict'

const { parseArgs } = require('util')
const { Kafka, logLevel } = require('kafkajs')
const { version } = require('kafkajs/package.json')
const { Program, sleep, thousandths, nowMs } = require('./program')

const DRAIN_TIME_MAX_MS = 20_000
const PACE_MS = 2
const WARM_AGAIN_MS = 200
const VALUE_BYTES = 100

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

const program = new Program('acks')
let [sent, errors, outstanding] = [0, 0, 0]
const warm = new Set()

async function send(producer, n, due) {
  const key = n % load.keys
  const partition = key % load.partitions
  const value = `${String(n).padStart(11, '0')} `.padEnd(VALUE_BYTES, 'x')
  outstanding++
  try {
    await producer.send({ topic: load.topic, acks: -1, messages: [{ partition, key: String(key), value }] })
    warm.add(partition)
    program.add(n, partition, thousandths(performance.now() - due), nowMs())
  } catch (e) {
    errors++
    program.print({ error: String(e), n, at: nowMs() })
  }
  outstanding--
}

async function drive(producer) {
  while (warm.size < load.partitions && !program.stopping) {
    for (let i = 0; i < load.partitions; i++) send(producer, sent++, performance.now())
    do await sleep(warm.size < load.partitions && outstanding === 0 ? WARM_AGAIN_MS : PACE_MS)
    while (outstanding > 0 && warm.size < load.partitions && !program.stopping)
  }
  if (program.stopping) return
  program.print({ ready: true })
  const first = sent
  const start = performance.now()
  while (!program.stopping) {
    for (;;) {
      const due = start + ((sent - first) * 1000) / load.rate
      if (due > performance.now()) break
      send(producer, sent++, due)
    }
    await sleep(PACE_MS)
  }
}

async function main() {
  program.print({ client: 'kafkajs', version })
  const kafka = new Kafka({ clientId: `load-kafkajs-${version}`, brokers: load.bootstrap.split(','), logLevel: logLevel.NOTHING })
  const idempotence = load.idempotent || load.plain ? { idempotent: Boolean(load.idempotent) } : {}
  const producer = kafka.producer(idempotence)
  await producer.connect()
  await drive(producer)
  const until = performance.now() + DRAIN_TIME_MAX_MS
  while (outstanding > 0 && performance.now() < until) await sleep(PACE_MS)
  program.end(0, () => ({ done: true, sent, acked: program.printed, errors }))
}

main().catch(e => program.die(String(e)))
