-- Deletes keys of another type than expected. Returns the type that each key had.
-- KEYS: the keys. ARGV: the expected type of each.
local types = {}
for i, key in ipairs(KEYS) do
  types[i] = redis.call('TYPE', key).ok
  if types[i] ~= ARGV[i] and types[i] ~= 'none' then
    redis.call('DEL', key)
  end
end
return types
