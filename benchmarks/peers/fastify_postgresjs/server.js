// The service on Fastify and postgres.js: JSON schemas validate what comes in and compile what goes out.
import { randomUUID } from 'node:crypto'
import { setTimeout as wait } from 'node:timers/promises'

import fastifyJwt from '@fastify/jwt'
import Fastify, { LogController } from 'fastify'
import postgres from 'postgres'

import { approved, candidate, candidateId, listQuery, page, registration, rejected, rejection } from './schemas.js'

const BILLING_TRIES = 3
const FIRST_WAIT_MS = 500
const BILLING_TIMEOUT_MS = 5000
const UNIQUE_VIOLATION = '23505'
const AUTH = process.env.AUTH === 'on'

class Refused extends Error {
  constructor (statusCode, message) {
    super(message)
    this.statusCode = statusCode
  }
}

const sql = postgres(process.env.DATABASE_URL, { max: Number(process.env.POOL_SIZE), onnotice: () => {} })

const app = Fastify({
  logger: true,
  logController: new LogController({ disableRequestLogging: true }),
  genReqId: () => randomUUID(),
  ajv: { customOptions: { removeAdditional: false } }
})

app.addHook('onResponse', async (request, reply) => {
  request.log.info({
    method: request.method,
    path: request.url,
    status: reply.statusCode,
    duration_ms: Math.round(reply.elapsedTime * 100) / 100
  }, 'request')
})

app.addHook('onSend', async (request, reply) => { reply.header('x-request-id', request.id) })

if (AUTH) {
  app.register(fastifyJwt, {
    secret: process.env.JWT_SECRET_KEY,
    verify: {
      algorithms: ['HS256'],
      allowedIss: 'provider-registration-service',
      allowedAud: 'provider-registration-api',
      requiredClaims: ['exp', 'iss', 'aud', 'role']
    }
  })
}

const allow = (...roles) => async (request, reply) => {
  if (!AUTH) return
  await request.jwtVerify()
  if (!roles.includes(request.user.role)) return reply.code(403).send({ detail: 'Not allowed' })
}
const staff = { onRequest: allow('viewer', 'admin') }
const admin = { onRequest: allow('admin') }

app.setErrorHandler((error, request, reply) => {
  if (error.validation) return reply.code(422).send({ detail: error.message })
  if (error instanceof Refused || error.statusCode < 500) {
    return reply.code(error.statusCode).send({ detail: error.message })
  }
  request.log.error(error)
  return reply.code(500).send({ detail: 'Internal error' })
})

const COLUMNS = sql`
  id AS candidate_id, status, company_name, contact_email, phone, products, truck_count, capacity_tons_per_day,
  location, created_at, updated_at, provider_id, version, rejection_reason, NULL AS approval`

const find = async (id) => {
  const [row] = await sql`SELECT ${COLUMNS} FROM candidates WHERE id = ${id}`
  if (!row) throw new Refused(404, 'No such candidate')
  return row
}

const findPending = async (id) => {
  const row = await find(id)
  if (row.status !== 'pending') throw new Refused(400, `Candidate is ${row.status} already`)
  return row
}

app.post('/candidates', { schema: { body: registration, response: { 201: candidate } } }, async (request, reply) => {
  const { body } = request
  try {
    const [row] = await sql`
      INSERT INTO candidates
        (company_name, contact_email, phone, products, truck_count, capacity_tons_per_day, location)
      VALUES (${body.company_name.trim()}, ${body.contact_email}, ${body.phone || null}, ${body.products},
              ${body.truck_count}, ${body.capacity_tons_per_day}, ${body.location || null})
      RETURNING ${COLUMNS}`
    return reply.code(201).send(row)
  } catch (error) {
    if (error.code === UNIQUE_VIOLATION) throw new Refused(409, 'This address is registered already')
    throw error
  }
})

app.get('/candidates', { ...staff, schema: { querystring: listQuery, response: { 200: page } } }, async (request) => {
  const { limit, offset, status, product } = request.query
  const where = sql`WHERE true
    ${status ? sql`AND status = ${status}` : sql``}
    ${product ? sql`AND products @> ${[product]}` : sql``}`
  const [[{ total }], candidates] = await Promise.all([
    sql`SELECT count(*)::int AS total FROM candidates ${where}`,
    sql`SELECT ${COLUMNS} FROM candidates ${where} ORDER BY created_at DESC, id DESC LIMIT ${limit} OFFSET ${offset}`
  ])
  return {
    candidates,
    pagination: {
      total,
      limit,
      offset,
      page: Math.floor(offset / limit) + 1,
      page_size: limit,
      total_pages: Math.ceil(total / limit)
    }
  }
})

app.get('/candidates/:candidate_id', { ...staff, schema: { params: candidateId, response: { 200: candidate } } },
  async (request) => find(request.params.candidate_id))

app.post('/candidates/:candidate_id/reject',
  { ...admin, schema: { params: candidateId, body: rejection, response: { 200: rejected } } },
  async (request) => {
    const { candidate_id: id } = request.params
    const row = await findPending(id)
    const reason = request.body?.reason || null
    const [changed] = await sql`
      UPDATE candidates
      SET status = 'rejected', rejection_reason = ${reason}, version = version + 1, updated_at = now()
      WHERE id = ${id} AND version = ${row.version} AND status = 'pending'
      RETURNING id`
    if (!changed) throw new Refused(409, 'Changed meanwhile')
    return { candidate_id: id, status: 'rejected', rejection_reason: reason }
  })

const createProvider = async (name) => {
  for (let attempt = 1; ; attempt++) {
    try {
      const response = await fetch(`${process.env.BILLING_URL}/provider`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ name }),
        signal: AbortSignal.timeout(BILLING_TIMEOUT_MS)
      })
      if (!response.ok) throw new Error(`billing answered ${response.status}`)
      return (await response.json()).id
    } catch (error) {
      if (attempt === BILLING_TRIES) throw new Refused(502, 'Billing failed')
      await wait(FIRST_WAIT_MS * 2 ** (attempt - 1))
    }
  }
}

app.post('/candidates/:candidate_id/approve',
  { ...admin, schema: { params: candidateId, response: { 200: approved } } },
  async (request) => {
    const { candidate_id: id } = request.params
    const row = await findPending(id)
    const providerId = await createProvider(row.company_name)
    const [changed] = await sql`
      UPDATE candidates
      SET status = 'approved', provider_id = ${providerId}, version = version + 1, updated_at = now()
      WHERE id = ${id} AND version = ${row.version} AND status = 'pending'
      RETURNING id`
    if (!changed) throw new Refused(409, 'Changed meanwhile')
    return { candidate_id: id, status: 'approved', provider_id: providerId }
  })

app.get('/health/live', async () => ({ status: 'ok' }))

const stop = async () => {
  await app.close()
  await sql.end({ timeout: 1 })
  process.exit(0)
}
process.on('SIGTERM', stop)
process.on('SIGINT', stop)

await app.listen({ host: '127.0.0.1', port: Number(process.env.PORT) })
