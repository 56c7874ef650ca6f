// The store with the guarantees of the service, in the service's own tables: see equal_sql.js for what is written.
import { createHash, randomUUID } from 'node:crypto'

import { BillingError, createProviderOnce } from './billing.js'
import { cursorOf, placeOf } from './cursors.js'
import { changed, decided, notFound, Refused, taken, UNIQUE_VIOLATION } from './errors.js'
import { makeStatements } from './equal_sql.js'
import { searchText } from './search_text.js'

const NAMESPACE = Buffer.from('8f0d3b5e6c0a5f0e9f6e2b1c4f7d9a10', 'hex')
const LEASE_SECONDS = 45
const RETRY_SECONDS = 2.5
const SWEEP_MS = 5000
const SWEEPS_AT_ONCE = 5

// A UUID of version 5: the same key for every attempt at a candidate's approval.
const keyOf = (id) => {
  const bytes = createHash('sha1').update(NAMESPACE).update(id.toLowerCase()).digest().subarray(0, 16)
  bytes[6] = (bytes[6] & 0x0f) | 0x50
  bytes[8] = (bytes[8] & 0x3f) | 0x80
  const hex = bytes.toString('hex')
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`
}

const refusalOf = (seen) => {
  if (!seen) return notFound()
  return seen.status === 'pending' ? changed() : decided(seen.status)
}

export const makeStore = (sql, log) => {
  const statements = makeStatements(sql)

  const find = async (id) => {
    const [row] = await statements.find(id)
    if (!row) throw notFound()
    return row
  }

  const register = async (company) => {
    try {
      const [row] = await statements.register(company, company.contact_email.toLowerCase(), searchText(company))
      return row
    } catch (error) {
      throw error.code === UNIQUE_VIOLATION ? taken() : error
    }
  }

  const list = async ({ limit, offset, status, product, cursor }) => {
    const [[{ total }], rows] = await Promise.all([
      statements.count(status, product),
      statements.page(status, product, cursor && placeOf(cursor), limit + 1, offset) // one more: is there a next page?
    ])
    const candidates = rows.slice(0, limit)
    return { total, candidates, next_cursor: rows.length > limit ? cursorOf(candidates.at(-1)) : null }
  }

  // The lock and the decision are sent together, and each has a snapshot of its own.
  const reject = async (id, reason, actor) => {
    const [, [seen]] = await sql.begin((tx) => [statements.lock(tx, id), statements.reject(tx, id, reason, actor)])
    if (seen?.has_approval && seen.status === 'pending') throw new Refused(409, 'An approval is unfinished')
    if (!seen?.is_rejected) throw refusalOf(seen)
  }

  const carryOut = async (claim) => {
    const key = claim.idempotency_key
    try {
      const providerId = await createProviderOnce(claim.provider_name, key, claim.attempts > 1)
      const [done] = await statements.finish(claim.candidate_id, claim.version, key, providerId)
      if (done.is_approved) return providerId
      throw changed()
    } catch (error) {
      if (!(error instanceof BillingError)) throw error
      log.error({ idempotency_key: key, outcome: error.outcome }, error.message)
      if (error.outcome === 'uncertain') {
        await statements.keepWaiting(claim.candidate_id, claim.claim_id, RETRY_SECONDS * 2 ** claim.attempts, error.message)
        throw new Refused(503, 'Billing did not answer; the approval will go on')
      }
      if (error.outcome === 'unusable') {
        await statements.doubt(claim.candidate_id, claim.claim_id, error.message)
        throw new Refused(502, 'An admin has to resolve this approval')
      }
      await statements.drop(claim.candidate_id, claim.claim_id)
      throw new Refused(502, 'Billing created no provider')
    }
  }

  const approve = async (id, actor) => {
    let seen
    try {
      [seen] = await statements.claim(id, keyOf(id), randomUUID(), actor, LEASE_SECONDS)
    } catch (error) {
      throw error.code === UNIQUE_VIOLATION ? new Refused(409, 'This name is being approved') : error
    }
    if (seen?.claim_id) return carryOut(seen)
    throw seen?.has_approval ? new Refused(409, 'An approval is unfinished') : refusalOf(seen)
  }

  // What a crash has left is carried out by any process.
  const sweep = async () => {
    try {
      const claims = await statements.claimDue(randomUUID(), LEASE_SECONDS, SWEEPS_AT_ONCE)
      await Promise.allSettled(claims.map(carryOut))
    } catch (error) {
      log.error(error)
    }
  }
  const sweeping = setInterval(sweep, SWEEP_MS)

  return { find, register, list, reject, approve, stop: async () => clearInterval(sweeping) }
}
