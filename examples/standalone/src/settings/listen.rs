//! Where to listen.

use std::net::{SocketAddr, ToSocketAddrs};

/// The addresses of `text`: an address or a name, and a port. Those of IPv4 come first, since
/// 127.0.0.1 is what clients are told of `localhost`.
pub(super) fn resolve(text: &str) -> Result<Vec<SocketAddr>, String> {
    if let Ok(address) = text.parse() {
        return Ok(vec![address]);
    }
    let port = |(host, port): (&str, &str)| match port.parse::<u16>() {
        Ok(port) if !host.is_empty() && !host.contains([':', '[', ']']) => {
            Some((host.to_owned(), port))
        }
        _ => None,
    };
    let Some((host, port)) = text.rsplit_once(':').and_then(port) else {
        return Err(format!(
            "'{text}' is not an address and a port, such as 0.0.0.0:8080, [::]:8080 or \
             localhost:8080"
        ));
    };
    let found = (host.as_str(), port).to_socket_addrs();
    let mut addresses: Vec<_> =
        found.map_err(|error| format!("the name '{host}' cannot be resolved: {error}"))?.collect();
    addresses.sort_by_key(SocketAddr::is_ipv6);
    match addresses.is_empty() {
        true => Err(format!("the name '{host}' has no address")),
        false => Ok(addresses),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_of_both_kinds_are_understood() {
        for text in ["127.0.0.1:0", "[::1]:8080", "0.0.0.0:80"] {
            assert_eq!(resolve(text).unwrap(), [text.parse().unwrap()], "{text}");
        }
        for text in ["localhost:8080", "LOCALHOST:8080"] {
            let addresses = resolve(text).unwrap();
            assert!(addresses.iter().all(|a| a.ip().is_loopback() && a.port() == 8080), "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_an_example() {
        for text in [
            "",
            "here",
            "localhost",
            ":8080",
            "8080",
            "127.0.0.1",
            "[::1]",
            "::1:8080",
            "localhost:",
            "localhost:http",
            "localhost:65536",
            "localhost:-1",
            "http://localhost:8080",
        ] {
            let problem = resolve(text).unwrap_err();
            assert!(problem.contains("localhost:8080"), "{text}: {problem}");
        }
        let problem = resolve("no-such-name.invalid:8080").unwrap_err();
        assert!(problem.contains("'no-such-name.invalid' cannot be resolved"), "{problem}");
    }
}
