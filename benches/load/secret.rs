/// What the tokens of a run are signed with.
pub(crate) const SECRET: &[u8] = b"of no use to anybody but the benchmarks";
