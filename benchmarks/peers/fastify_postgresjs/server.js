// The service on Fastify and postgres.js: JSON schemas validate what comes in and compile what goes out. STORE says
// with which guarantees: `plain` or `equal`.
import { randomUUID } from 'node:crypto'

import fastifyHelmet from '@fastify/helmet'
import fastifyJwt from '@fastify/jwt'
import Fastify, { LogController } from 'fastify'
import fastifyMetrics from 'fastify-metrics'
import pino from 'pino'
import postgres from 'postgres'

import { closeBilling } from './billing.js'
import { Refused } from './errors.js'
import { approved, candidate, candidateId, listQuery, page, registration, rejected, rejection } from './schemas.js'

const { makeStore } = await import(`./${process.env.STORE}.js`)

const AUTH = process.env.AUTH === 'on'
const REMEMBERED_TOKENS = 4096

// Lines are collected and written without blocking, at the latest after a second.
const destination = pino.destination({ sync: false, minLength: 4096, periodicFlush: 1000 })
const sql = postgres(process.env.DATABASE_URL, { max: Number(process.env.POOL_SIZE), onnotice: () => {} })

const app = Fastify({
  loggerInstance: pino(destination),
  logController: new LogController({ disableRequestLogging: true }),
  genReqId: () => randomUUID(),
  ajv: { customOptions: { removeAdditional: false } }
})

const store = makeStore(sql, app.log)

app.addHook('onResponse', async (request, reply) => {
  request.log.info({
    method: request.method,
    path: request.url,
    status: reply.statusCode,
    duration_ms: Math.round(reply.elapsedTime * 100) / 100
  }, 'request')
})

app.addHook('onSend', async (request, reply) => { reply.header('x-request-id', request.id) })

await app.register(fastifyMetrics, { endpoint: '/metrics', routeMetrics: { enabled: { histogram: true, summary: false } } })
await app.register(fastifyHelmet, {
  contentSecurityPolicy: {
    useDefaults: false,
    directives: { defaultSrc: ["'none'"], baseUri: ["'none'"], formAction: ["'none'"], frameAncestors: ["'none'"] }
  }
})

if (AUTH) {
  await app.register(fastifyJwt, {
    secret: process.env.JWT_SECRET_KEY,
    verify: {
      algorithms: ['HS256'],
      allowedIss: 'provider-registration-service',
      allowedAud: 'provider-registration-api',
      requiredClaims: ['exp', 'iss', 'aud', 'role', 'sub'],
      cache: REMEMBERED_TOKENS,
      cacheKeyBuilder: (token) => token // by default it is hashed, which takes longer
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

app.post('/candidates', { schema: { body: registration, response: { 201: candidate } } }, async (request, reply) => {
  const { body } = request
  const company = {
    ...body,
    company_name: body.company_name.trim(),
    phone: body.phone?.trim() || null,
    location: body.location?.trim() || null
  }
  if (!company.company_name) throw new Refused(422, 'company_name is blank')
  return reply.code(201).send(await store.register(company))
})

app.get('/candidates', { ...staff, schema: { querystring: listQuery, response: { 200: page } } }, async (request) => {
  const { limit, offset } = request.query
  const { total, candidates, next_cursor: next } = await store.list(request.query)
  return {
    candidates,
    pagination: {
      total,
      limit,
      offset,
      page: Math.floor(offset / limit) + 1,
      page_size: limit,
      total_pages: Math.ceil(total / limit),
      next_cursor: next
    }
  }
})

app.get('/candidates/:candidate_id', { ...staff, schema: { params: candidateId, response: { 200: candidate } } },
  async (request) => store.find(request.params.candidate_id))

app.post('/candidates/:candidate_id/reject',
  { ...admin, schema: { params: candidateId, body: rejection, response: { 200: rejected } } },
  async (request) => {
    const { candidate_id: id } = request.params
    const reason = request.body?.reason || null
    await store.reject(id, reason, request.user?.sub)
    return { candidate_id: id, status: 'rejected', rejection_reason: reason }
  })

app.post('/candidates/:candidate_id/approve',
  { ...admin, schema: { params: candidateId, response: { 200: approved } } },
  async (request) => {
    const { candidate_id: id } = request.params
    return { candidate_id: id, status: 'approved', provider_id: await store.approve(id, request.user?.sub) }
  })

app.get('/health/live', { schema: { response: { 200: { type: 'object', properties: { status: { type: 'string' } } } } } },
  async () => ({ status: 'ok' }))

const stop = async () => {
  await app.close()
  await store.stop()
  await closeBilling()
  await sql.end({ timeout: 1 })
  destination.flushSync()
  process.exit(0)
}
process.on('SIGTERM', stop)
process.on('SIGINT', stop)
process.on('uncaughtExceptionMonitor', (error) => {
  app.log.fatal(error)
  destination.flushSync()
})

await app.listen({ host: '127.0.0.1', port: Number(process.env.PORT) })
