-- Gives the next pair.
-- ARGV: an id for a pair that is new.
forget_impatient()
local answer = take(ARGV[5])
live_on()
return answer
