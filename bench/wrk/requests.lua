-- The requests of a run, one after another. Arguments after `--`, each key=value:
--   method, prefix, suffix   the path is prefix, an id, suffix
--   first, step, count       ids: first + step * (0 .. count - 1), each as likely; none where count is 0
--   seed                     another one gives other ids
--   tokens                   a file of bearer tokens, one a line, each as likely ('' for none)
--   body                     a JSON body, in which %d becomes a number ('' for none)
--   pause                    about how many ms a connection waits before each request (0: it does not)
local options, tokens = {}, {}

function init(arguments)
  for _, argument in ipairs(arguments) do
    local key, value = argument:match('^(%w+)=(.*)$')
    options[key] = value
  end
  for _, key in ipairs({'first', 'step', 'count', 'seed', 'pause'}) do options[key] = tonumber(options[key]) end
  math.randomseed(options.seed)
  if options.tokens ~= '' then
    for line in io.lines(options.tokens) do tokens[#tokens + 1] = 'Authorization: Bearer ' .. line .. '\r\n' end
  end
  if options.pause > 0 then
    delay = function() return math.random(0, 2 * options.pause) end -- wrk asks only where there is such a function
  end
  options.head = ' HTTP/1.1\r\nHost: bench\r\n'
end

function request()
  local id = ''
  if options.count > 0 then
    id = string.format('%.0f', options.first + options.step * math.random(0, options.count - 1))
  end
  local head = options.method .. ' ' .. options.prefix .. id .. options.suffix .. options.head
  if #tokens > 0 then head = head .. tokens[math.random(#tokens)] end
  if options.body == '' then return head .. '\r\n' end
  local body = string.format(options.body, math.random(1000000, 9999999))
  return head .. 'Content-Type: application/json\r\nContent-Length: ' .. #body .. '\r\n\r\n' .. body
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '\nRESULT {"requests": %d, "micros": %d, "failed": %d, "p50": %.1f, "p90": %.1f, "p99": %.1f, "most": %.1f}\n',
    summary.requests, summary.duration, errors.connect + errors.read + errors.write + errors.status + errors.timeout,
    latency:percentile(50), latency:percentile(90), latency:percentile(99), latency.max))
end
