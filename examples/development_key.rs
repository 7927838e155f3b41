//! The secret that tokens are signed with: that of your login, or one for trying the example.

use std::{
    env::{self, VarError},
    error::Error,
    io::{self, Write},
};

/// `JWT_SECRET`. If it is not set, a secret is made for this run, and standard error says how to
/// make a token with it.
pub(crate) fn jwt_secret(example: &str) -> Result<String, Box<dyn Error>> {
    match env::var("JWT_SECRET") {
        Ok(secret) if !secret.is_empty() => Ok(secret),
        Ok(_) | Err(VarError::NotPresent) => {
            let mut bytes = [0; 16];
            getrandom::fill(&mut bytes)?;
            let secret: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            // `eprintln!` would panic where standard error cannot be written.
            let _ = writeln!(
                io::stderr(),
                "{example}: JWT_SECRET is not set: made a development key for this run. A token of \
                 the user ann:\n  JWT_SECRET={secret} examples/make-token ann"
            );
            Ok(secret)
        }
        Err(error) => Err(format!("JWT_SECRET: {error}").into()),
    }
}
