// Calls to billing over kept-alive connections of undici's.
import { setTimeout as wait } from 'node:timers/promises'

import { Pool } from 'undici'

const CONNECTIONS = 16
const TIMEOUT_MS = 5000
const MAX_ANSWER = 64 * 1024
const MAX_PROVIDER_ID = 2 ** 31 - 1
const NOT_SENT = new Set(['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', 'EHOSTUNREACH', 'UND_ERR_CONNECT_TIMEOUT'])
const RETRIED = new Set(['not_sent', 'uncertain'])

// `outcome`: not_sent or refused, billing created nothing; uncertain, it may have; unusable, and asking again is no use.
export class BillingError extends Error {
  constructor (outcome, message) {
    super(message)
    this.outcome = outcome
  }
}

const pool = new Pool(process.env.BILLING_URL, {
  connections: CONNECTIONS,
  connect: { timeout: TIMEOUT_MS },
  headersTimeout: TIMEOUT_MS,
  bodyTimeout: TIMEOUT_MS,
  maxResponseSize: MAX_ANSWER
})

const post = async (name, headers) => {
  const { statusCode, body } = await pool.request({
    path: '/provider',
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify({ name })
  })
  return { statusCode, text: await body.text() }
}

const pause = (attempt) => wait(500 * 2 ** (attempt - 1) * (1 + Math.random() / 4))

// The plain call: any failure is tried again, and the ID is taken as it comes.
export const createProvider = async (name) => {
  for (let attempt = 1; ; attempt++) {
    try {
      const { statusCode, text } = await post(name)
      if (statusCode >= 300) throw new Error(`billing answered ${statusCode}`)
      return JSON.parse(text).id
    } catch (error) {
      if (attempt === 3) throw new BillingError('uncertain', error.message)
      await pause(attempt)
    }
  }
}

const parsed = (text) => {
  try {
    return JSON.parse(text)
  } catch {
    return null
  }
}

const attemptOnce = async (name, key) => {
  let answer
  try {
    answer = await post(name, { 'idempotency-key': key })
  } catch (error) {
    throw new BillingError(NOT_SENT.has(error.code) ? 'not_sent' : 'uncertain', error.message)
  }
  const { statusCode, text } = answer
  if (statusCode >= 500 || [408, 425, 429].includes(statusCode)) {
    throw new BillingError('uncertain', `billing answered ${statusCode}`)
  }
  if (statusCode >= 400) throw new BillingError('refused', `billing answered ${statusCode}`)
  const provider = parsed(text)
  const isUsable = statusCode === 201 && Number.isInteger(provider?.id) && provider.id >= 1 &&
    provider.id <= MAX_PROVIDER_ID && provider.name === name
  if (!isUsable) throw new BillingError('unusable', `billing answered ${statusCode} with no usable provider`)
  return provider.id
}

// The call with a key: the answer is checked, and a failure says whether there may be a provider.
export const createProviderOnce = async (name, key, maybeSent) => {
  for (let attempt = 1; ; attempt++) {
    try {
      return await attemptOnce(name, key)
    } catch (error) {
      if (RETRIED.has(error.outcome) && attempt < 4) {
        maybeSent ||= error.outcome === 'uncertain'
        await pause(attempt)
        continue
      }
      if (maybeSent && error.outcome === 'not_sent') error.outcome = 'uncertain'
      if (maybeSent && error.outcome === 'refused') error.outcome = 'unusable'
      throw error
    }
  }
}

export const closeBilling = () => pool.close()
