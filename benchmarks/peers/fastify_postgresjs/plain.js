// The typical store: one table, plain writes, no log of events.
import { BillingError, createProvider } from './billing.js'
import { changed, decided, notFound, Refused, taken, UNIQUE_VIOLATION } from './errors.js'

export const makeStore = (sql) => {
  const COLUMNS = sql`
    id AS candidate_id, status, company_name, contact_email, phone, products, truck_count, capacity_tons_per_day,
    location, created_at, updated_at, provider_id, version, rejection_reason, NULL AS approval`

  const find = async (id) => {
    const [row] = await sql`SELECT ${COLUMNS} FROM candidates WHERE id = ${id}`
    if (!row) throw notFound()
    return row
  }

  const findPending = async (id) => {
    const row = await find(id)
    if (row.status !== 'pending') throw decided(row.status)
    return row
  }

  const register = async (company) => {
    try {
      const [row] = await sql`
        INSERT INTO candidates
          (company_name, contact_email, phone, products, truck_count, capacity_tons_per_day, location)
        VALUES (${company.company_name}, ${company.contact_email}, ${company.phone}, ${company.products},
                ${company.truck_count}, ${company.capacity_tons_per_day}, ${company.location})
        RETURNING ${COLUMNS}`
      return row
    } catch (error) {
      throw error.code === UNIQUE_VIOLATION ? taken() : error
    }
  }

  const list = async ({ limit, offset, status, product }) => {
    const where = sql`WHERE true
      ${status ? sql`AND status = ${status}` : sql``}
      ${product ? sql`AND products @> ${[product]}` : sql``}`
    const [[{ total }], candidates] = await Promise.all([
      sql`SELECT count(*)::int AS total FROM candidates ${where}`,
      sql`SELECT ${COLUMNS} FROM candidates ${where} ORDER BY created_at DESC, id DESC LIMIT ${limit} OFFSET ${offset}`
    ])
    return { total, candidates }
  }

  const reject = async (id, reason) => {
    const row = await findPending(id)
    const [done] = await sql`
      UPDATE candidates
      SET status = 'rejected', rejection_reason = ${reason}, version = version + 1, updated_at = now()
      WHERE id = ${id} AND version = ${row.version} AND status = 'pending'
      RETURNING id`
    if (!done) throw changed()
  }

  const approve = async (id) => {
    const row = await findPending(id)
    let providerId
    try {
      providerId = await createProvider(row.company_name)
    } catch (error) {
      throw error instanceof BillingError ? new Refused(502, 'Billing failed') : error
    }
    const [done] = await sql`
      UPDATE candidates
      SET status = 'approved', provider_id = ${providerId}, version = version + 1, updated_at = now()
      WHERE id = ${id} AND version = ${row.version} AND status = 'pending'
      RETURNING id`
    if (!done) throw changed()
    return providerId
  }

  return { find, register, list, reject, approve, stop: async () => {} }
}
