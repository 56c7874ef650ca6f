-- What wrk sends, and what it says in the end, as JSON.
-- Arguments: a file of tokens, one a line, which requests have in turn; then "walk" and a file of lines `METHOD PATH`,
-- sent over and over, or "register" and a word that makes this run's addresses its own, and a number below 250 that does
-- so for the addresses of the senders; then the body, if any.
local mode, lines, body, word, run = nil, {}, nil, nil, nil
local sent = 0

function init(args)
   local tokens = {}
   for token in io.lines(args[1]) do tokens[#tokens + 1] = token end
   mode = args[2]
   if mode == "register" then
      word, run, body = args[3], args[4], args[5]
   else
      body = args[4]
   end
   if body then wrk.headers["Content-Type"] = "application/json" end
   if mode == "register" then return end
   local paths = {}
   for line in io.lines(args[3]) do paths[#paths + 1] = line end
   for i = 1, math.max(#paths, #tokens) do
      local method, path = paths[(i - 1) % #paths + 1]:match("^(%S+) (%S+)$")
      if #tokens > 0 then wrk.headers["Authorization"] = "Bearer " .. tokens[(i - 1) % #tokens + 1] end
      lines[i] = wrk.format(method, path, nil, body)
   end
end

function request()
   sent = sent + 1
   if mode == "register" then
      -- From many addresses, as companies do: of one address, 20 requests are served at once and 30 an hour.
      local address = {10, run, math.floor(sent / 5000) % 250, sent % 250}
      wrk.headers["X-Forwarded-For"] = table.concat(address, ".")
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
