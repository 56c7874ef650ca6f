// JSON schemas of what comes in and what goes out.
const MAX_INTEGER = 2 ** 31 - 1
const PRODUCTS = ['apples', 'oranges', 'grapes', 'bananas', 'mangoes']
const STATUSES = ['pending', 'approved', 'rejected']

const uuid = { type: 'string', format: 'uuid' }
const instant = { type: 'string', format: 'date-time' }
const positive = { type: 'integer', minimum: 1, maximum: MAX_INTEGER }
const optional = (maxLength) => ({ type: 'string', nullable: true, maxLength })
const nullableText = { type: 'string', nullable: true }
const nullableInteger = { type: 'integer', nullable: true }

const object = (properties, required = Object.keys(properties)) => ({
  type: 'object', properties, required, additionalProperties: false
})

export const candidateId = object({ candidate_id: uuid })

export const registration = object({
  company_name: { type: 'string', minLength: 1, maxLength: 255 },
  contact_email: { type: 'string', format: 'email', maxLength: 254 },
  phone: optional(50),
  products: { type: 'array', minItems: 1, uniqueItems: true, items: { enum: PRODUCTS } },
  truck_count: positive,
  capacity_tons_per_day: positive,
  location: optional(255)
}, ['company_name', 'contact_email', 'products', 'truck_count', 'capacity_tons_per_day'])

export const rejection = { ...object({ reason: optional(1000) }, []), nullable: true }

export const listQuery = object({
  limit: { type: 'integer', minimum: 1, maximum: 100, default: 20 },
  offset: { type: 'integer', minimum: 0, default: 0 },
  status: { enum: STATUSES },
  product: { enum: PRODUCTS },
  cursor: { type: 'string', pattern: '^[A-Za-z0-9_-]{32}$' } // the plain store has none
}, [])

export const candidate = object({
  candidate_id: uuid,
  status: { type: 'string' },
  company_name: { type: 'string' },
  contact_email: { type: 'string' },
  phone: nullableText,
  products: { type: 'array', items: { type: 'string' } },
  truck_count: { type: 'integer' },
  capacity_tons_per_day: { type: 'integer' },
  location: nullableText,
  created_at: instant,
  updated_at: instant,
  provider_id: nullableInteger,
  version: { type: 'integer' },
  rejection_reason: nullableText,
  approval: {
    ...object({
      state: { type: 'string' },
      requested_at: { type: 'string' },
      attempts: { type: 'integer' },
      next_attempt_at: nullableText,
      last_error: nullableText
    }),
    nullable: true
  }
}, [])

export const page = object({
  candidates: { type: 'array', items: candidate },
  pagination: object({
    total: { type: 'integer' },
    limit: { type: 'integer' },
    offset: { type: 'integer' },
    page: { type: 'integer' },
    page_size: { type: 'integer' },
    total_pages: { type: 'integer' },
    next_cursor: nullableText
  }, [])
})

export const approved = object({ candidate_id: uuid, status: { type: 'string' }, provider_id: { type: 'integer' } })

export const rejected = object({ candidate_id: uuid, status: { type: 'string' }, rejection_reason: nullableText })
