// What the programs share that run until they are told to stop: the lines that they print, in batches, and their end.
// It knows no Kafka. What is printed is described in tests/clients/README.md.
'use strict'

const readline = require('readline')

const RUN_TIME_MAX_MS = 300_000
const PRINT_EVERY_MS = 50

const sleep = ms => new Promise(resolve => setTimeout(resolve, ms))
const thousandths = ms => Math.round(ms * 1000) / 1000
const nowMs = () => thousandths(performance.timeOrigin + performance.now())
const write = line => process.stdout.write(JSON.stringify(line) + '\n')

class Program {
  #batchName
  #batch = []
  #ended = false
  printed = 0 // Entries of batches.
  stopping = false

  // It prints batches by that name from now on, and ends itself after 300 s.
  constructor(batchName) {
    this.#batchName = batchName
    setTimeout(() => this.die('not stopped after 300 s'), RUN_TIME_MAX_MS)
    setInterval(() => this.#flush(), PRINT_EVERY_MS)
    // Nobody reads any more.
    process.stdout.on('error', () => process.exit(1))
    const input = readline.createInterface({ input: process.stdin })
    this.stopped = new Promise(resolve => {
      const stop = () => {
        this.stopping = true
        resolve()
      }
      input.on('line', line => line.trim() === 'stop' && stop())
      input.on('close', stop)
    })
  }

  // Adds one entry to the batch.
  add(...entry) {
    this.#batch.push(entry)
  }

  // Prints a line behind the batch so far.
  print(line) {
    if (this.#ended) return
    this.#flush()
    write(line)
  }

  // Ends the program when everything is written, and without closing the client: that may wait for brokers that are gone.
  // The last line is asked for when all else is printed.
  end(status, lastLine) {
    if (this.#ended) return
    this.#flush()
    write(lastLine())
    this.#exit(status)
  }

  die(why) {
    this.#flush()
    console.error(why)
    this.#exit(1)
  }

  #flush() {
    if (this.#ended) return
    if (this.#batch.length > 0) write({ [this.#batchName]: this.#batch })
    this.printed += this.#batch.length
    this.#batch = []
  }

  #exit(status) {
    this.#ended = true
    process.stdout.write('', () => process.exit(status))
  }
}

module.exports = { Program, sleep, thousandths, nowMs }
