// A place in the list, as the service writes it: microseconds since 1970 in 8 bytes, and the ID.
export const cursorOf = ({ micros, candidate_id: id }) => {
  const bytes = Buffer.alloc(24)
  bytes.writeBigInt64BE(BigInt(micros))
  bytes.write(id.replaceAll('-', ''), 8, 'hex')
  return bytes.toString('base64url')
}

export const placeOf = (cursor) => {
  const bytes = Buffer.from(cursor, 'base64url')
  const hex = bytes.toString('hex', 8)
  const id = `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`
  return { micros: bytes.readBigInt64BE().toString(), id }
}
