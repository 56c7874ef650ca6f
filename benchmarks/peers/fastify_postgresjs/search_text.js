// The search text of a candidate, as the service makes it: lower-case ASCII words, each after a space.
import anyAscii from 'any-ascii'

const MAX_LENGTH = 1000
const TELEPHONE = /[0-9](?<![0-9A-Za-z][0-9])(?:[ ()./+-]{0,3}[0-9]){6,}(?![0-9A-Za-z])/g
const ASCII = /^[\x00-\x7f]*$/ // eslint-disable-line no-control-regex
const APOSTROPHES = /['`]/g
const WORD = /[a-z0-9]+/g

const plain = (text) => {
  if (!ASCII.test(text)) text = anyAscii(text.slice(0, MAX_LENGTH).normalize('NFKC').toLowerCase())
  return text.slice(0, MAX_LENGTH)
}

const digits = (number) => number.replace(/[^0-9]+/g, '').replace(/^00/, '')

export const searchText = ({ company_name: name, contact_email: email, phone, location }) => {
  let words = `${plain(email)} ${plain(name)}`
  if (location) words += ` ${plain(location)}`
  const numbers = words.match(TELEPHONE)
  if (phone) words += ` ${plain(phone).replace(TELEPHONE, (number) => ` ${digits(number)} `)}`
  if (numbers) words += ` ${numbers.map(digits).join(' ')}`
  const found = words.toLowerCase().replace(APOSTROPHES, '').match(WORD) ?? []
  return ['', ...new Set(found)].join(' ')
}
