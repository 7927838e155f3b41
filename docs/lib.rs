//! Nothing but the README and the pages beside this file: `cargo test --doc` compiles what they
//! show.

macro_rules! pages {
    ($($name:ident: $path:literal),* $(,)?) => {$(
        #[cfg(doctest)]
        #[doc = include_str!($path)]
        mod $name {}
    )*};
}

pages! {
    readme: "../README.md",
    embed: "embed.md",
    extend: "extend.md",
}
