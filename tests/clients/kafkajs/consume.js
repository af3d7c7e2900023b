// A member of a group under load with kafkajs, with its defaults: an eager round-robin assigner, 30 s of session, up to 5 s for a fetch,
// offsets committed after each batch, a consumer that starts itself anew after most errors.
// What it prints is described in tests/clients/README.md.
'use strict'

const { parseArgs } = require('util')
const { Kafka, logLevel } = require('kafkajs')
const { version } = require('kafkajs/package.json')
const { Program, sleep, nowMs } = require('./program')

const CLOSE_TIME_MAX_MS = 20_000
const ERRORS_PRINTED_MAX = 200

function readArguments() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      consume: { type: 'boolean' },
      topic: { type: 'string' },
      group: { type: 'string' },
      member: { type: 'string' },
      out: { type: 'string' },
    },
  })
  if (positionals.length !== 1) throw new Error('one list of bootstrap servers is needed')
  if (!values.topic || !values.group || !values.member) throw new Error('a topic, a group and a member are needed')
  return { ...values, bootstrap: positionals[0] }
}

let given
try {
  given = readArguments()
} catch (e) {
  console.error(`${e.message}\nusage: consume.js BOOTSTRAP --consume --topic T --group G --member M --out json`)
  process.exit(2)
}

const program = new Program('records')
let errors = 0
let assigned = []

function failed(error) {
  if (program.stopping) return
  errors++
  if (errors <= ERRORS_PRINTED_MAX) program.print({ error: String(error), at: nowMs() })
}

function finish(status, closed) {
  program.end(status, () => ({ done: true, delivered: program.printed, errors, closed }))
}

function delivered({ partition, message }) {
  const at = nowMs()
  const number = /^(\d{11}) /.exec(message.value)
  if (number) program.add(Number(number[1]), partition, Number(message.offset), at)
  else failed(`a value without a number in partition ${partition} at offset ${message.offset}`)
}

function watch(consumer) {
  // Its assigners are eager: it is told all its partitions each time. Its generation it does not tell.
  consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
    // A copy: the list is the library's own.
    assigned = [...(payload.memberAssignment[given.topic] || [])].sort((a, b) => a - b)
    if (!program.stopping) program.print({ assigned, at: nowMs(), member_id: payload.memberId, generation: null })
  })
  consumer.on(consumer.events.REBALANCING, () => {
    if (assigned.length > 0 && !program.stopping) program.print({ revoked: assigned, at: nowMs() })
    assigned = []
  })
  // What stops the consumer is given to the application in this way alone.
  consumer.on(consumer.events.CRASH, ({ payload }) => {
    failed(payload.error)
    if (!payload.restart && !program.stopping) finish(1, true)
  })
}

async function main() {
  program.print({ client: 'kafkajs', version, member: given.member })
  const kafka = new Kafka({
    clientId: `consume-kafkajs-${version}-${given.member}`,
    brokers: given.bootstrap.split(','),
    logLevel: logLevel.NOTHING,
  })
  const consumer = kafka.consumer({ groupId: given.group })
  watch(consumer)
  const start = async () => {
    await consumer.connect()
    await consumer.subscribe({ topic: given.topic, fromBeginning: true })
    await consumer.run({ eachMessage: async delivery => delivered(delivery) })
  }
  start().catch(e => {
    if (program.stopping) return
    failed(e)
    finish(1, true)
  })
  await program.stopped
  const closing = consumer.disconnect().then(
    () => true,
    e => {
      console.error(String(e))
      return true
    },
  )
  finish(0, await Promise.race([closing, sleep(CLOSE_TIME_MAX_MS).then(() => false)]))
}

main()
