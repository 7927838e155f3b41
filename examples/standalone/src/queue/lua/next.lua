-- Gives the next pair.
-- ARGV: an id for a pair that is new.
forget_impatient()
local taken_pair = take(ARGV[5])
live_on()
return taken_pair
