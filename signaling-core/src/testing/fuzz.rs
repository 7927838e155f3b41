//! What the fuzz targets in `signaling-core/fuzz` call, and what replays their corpora: one function for each
//! target. It takes any bytes and panics if what its documentation says does not hold.

#[cfg(feature = "websocket")]
mod handshake;
mod messages;
#[cfg(any(feature = "jwt", feature = "jwt-aws-lc"))]
mod tokens;

use std::{fs, path::Path};

use crate::bus::Envelope;

#[cfg(feature = "websocket")]
pub use handshake::handshake;
pub use messages::{client_message, scanner};
#[cfg(any(feature = "jwt", feature = "jwt-aws-lc"))]
pub use tokens::{jwk_set, jwt};

/// Target `envelopes`: what one node sends another, as a JSON array of envelopes.
///
/// If serde reads the array, what is written of it is read as the same envelopes, and written again as the same
/// text.
pub fn envelopes(data: &[u8]) {
    let Ok(read) = serde_json::from_slice::<Vec<Envelope>>(data) else { return };
    let written = serde_json::to_string(&read).expect("envelopes are written");
    let again: Vec<Envelope> = serde_json::from_str(&written).expect("what was written is read");
    assert!(again == read, "{read:?} was read again as {again:?}");
    assert_eq!(serde_json::to_string(&again).ok(), Some(written));
}

/// Calls `check` with each file of the corpus `folder`, and prints the file's path before.
///
/// # Panics
///
/// When the folder is missing or empty, and when `check` panics.
pub fn replay(folder: &Path, check: fn(&[u8])) {
    let files =
        fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut replayed = 0;
    for file in files {
        let path = file.expect("a file of the corpus").path();
        println!("{}", path.display());
        check(&fs::read(&path).expect("the file is read"));
        replayed += 1;
    }
    assert!(replayed > 0, "{} is empty", folder.display());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replay_corpus(target: &str, check: fn(&[u8])) {
        replay(&Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target), check);
    }

    #[test]
    fn corpus_of_scanner_is_replayed() {
        replay_corpus("scanner", scanner);
    }

    #[test]
    fn corpus_of_client_message_is_replayed() {
        replay_corpus("client_message", client_message);
    }

    #[test]
    fn corpus_of_envelopes_is_replayed() {
        replay_corpus("envelopes", envelopes);
    }

    #[cfg(feature = "websocket")]
    #[test]
    fn corpus_of_handshake_is_replayed() {
        replay_corpus("handshake", handshake);
    }

    #[cfg(any(feature = "jwt", feature = "jwt-aws-lc"))]
    #[test]
    fn corpus_of_jwt_is_replayed() {
        replay_corpus("jwt", jwt);
    }

    #[cfg(any(feature = "jwt", feature = "jwt-aws-lc"))]
    #[test]
    fn corpus_of_jwk_set_is_replayed() {
        replay_corpus("jwk_set", jwk_set);
    }
}
