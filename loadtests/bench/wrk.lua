-- Posts one body file; the request is formatted once. Arguments after "--": the file, then header=value pairs.
-- The figures come back as one line of key=value, latencies in microseconds.
function init(args)
   local file = assert(io.open(args[1], "rb"))
   wrk.body = file:read("*a")
   file:close()
   wrk.method = "POST"
   for i = 2, #args do
      local name, value = string.match(args[i], "^([^=]+)=(.*)$")
      wrk.headers[name] = value
   end
end

function done(summary, latency, requests)
   local e = summary.errors
   io.write(string.format("RESULT requests=%d duration_us=%d p50=%d p95=%d p99=%d errors=%d\n",
      summary.requests, summary.duration, latency:percentile(50), latency:percentile(95), latency:percentile(99),
      e.connect + e.read + e.write + e.status + e.timeout))
end
