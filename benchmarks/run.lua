-- What wrk sends, and what it says in the end, as JSON.
-- Arguments: "walk" and a file of lines `METHOD PATH`, sent over and over, or "register" and a word that makes this
-- run's addresses its own; then the body, if any.
local mode, lines, body, word = nil, {}, nil, nil
local sent = 0

function init(args)
   mode, body = args[1], args[3]
   if body then wrk.headers["Content-Type"] = "application/json" end
   if mode == "register" then
      word = args[2]
      return
   end
   for line in io.lines(args[2]) do
      local method, path = line:match("^(%S+) (%S+)$")
      lines[#lines + 1] = wrk.format(method, path, nil, body)
   end
end

function request()
   sent = sent + 1
   if mode == "register" then
      -- From many addresses, as companies do: of one address, 20 requests are served at once.
      wrk.headers["X-Forwarded-For"] = "192.0.2." .. sent % 250
      return wrk.format("POST", "/candidates", nil, (body:gsub("UNIQUE", word .. "-" .. sent)))
   end
   return lines[(sent - 1) % #lines + 1]
end

function done(summary, latency, requests)
   local errors = summary.errors
   io.write(string.format(
      '\n{"requests": %d, "seconds": %.6f, "refused": %d, "broken": %d, "p50": %.4f, "p95": %.4f, "p99": %.4f}\n',
      summary.requests, summary.duration / 1e6, errors.status,
      errors.connect + errors.read + errors.write + errors.timeout,
      latency:percentile(50) / 1e3, latency:percentile(95) / 1e3, latency:percentile(99) / 1e3))
end
