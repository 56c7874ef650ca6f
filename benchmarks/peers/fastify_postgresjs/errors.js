// What a caller is told.
export class Refused extends Error {
  constructor (statusCode, message) {
    super(message)
    this.statusCode = statusCode
  }
}

export const notFound = () => new Refused(404, 'No such candidate')
export const decided = (status) => new Refused(400, `Candidate is ${status} already`)
export const changed = () => new Refused(409, 'Changed meanwhile')
export const taken = () => new Refused(409, 'This address is registered already')

export const UNIQUE_VIOLATION = '23505'
