//! The token's grammar: every cut and every wrong character is found, and named.

use proptest::prelude::*;

use super::*;

fn token(addrs: &[&str]) -> JoinToken {
    JoinToken {
        ca_fingerprint: Fingerprint::of(b"a CA"),
        secret: JoinSecret::from_bytes(*b"0123456789abcdef"),
        role: Role::Worker,
        addrs: addrs.iter().map(|a| a.parse().expect("an address")).collect(),
    }
}

fn parse(text: &str) -> Result<JoinToken, TokenError> {
    text.parse()
}

#[test]
fn text_has_the_promised_shape() {
    let text = token(&["192.0.2.1:7946", "[2001:db8::1]:7946"]).to_string();
    let fields: Vec<&str> = text.split('-').collect();
    assert_eq!(fields[..2], ["SWMN", "1"]);
    assert_eq!(fields[2].len(), base32::encoded_len(32));
    assert_eq!(fields[3].len(), base32::encoded_len(SECRET_LEN));
    assert_eq!(fields.len(), 5);
    assert!(fields[2..].concat().bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase()));
}

#[test]
fn other_products_and_versions_are_named() {
    let docker =
        "SWMTKN-1-49nj1cmql0jkz5s954yi3oex3nedyz0fb0xx14ie39trti4wxv-8vxv8rssmk743ojnwacrr2e7c";
    assert_eq!(parse(docker), Err(TokenError::DockerSwarm));
    let newer = token(&[]).to_string().replacen("-1-", "-2-", 1);
    assert_eq!(parse(&newer), Err(TokenError::Newer { found: 2 }));
    for other in ["", "hello", "K10abc::server:xyz", "swmn-1-x", &"x".repeat(5000)] {
        assert_eq!(parse(other), Err(TokenError::NotAToken), "{other}");
    }
    for odd in ["SWMN-01-a", "SWMN-+1-a", "SWMN-0-a", "SWMN-x-a"] {
        assert_eq!(parse(odd), Err(TokenError::Mistyped), "{odd}");
    }
}

#[test]
fn every_truncation_is_called_one() {
    for addrs in [&[][..], &["192.0.2.1:7946"], &["[2001:db8::1]:1", "192.0.2.1:65535"]] {
        let text = token(addrs).to_string();
        for len in 1..text.len() {
            assert_eq!(parse(&text[..len]), Err(TokenError::Truncated), "{}", &text[..len]);
        }
    }
}

#[test]
fn every_single_character_change_is_found() {
    let text = token(&["192.0.2.1:7946", "[2001:db8::1]:7946"]).to_string();
    for at in 0..text.len() {
        for c in "0123456789abcdefghijklmnopqrstuvwxyzABCZ-:é ".chars() {
            let wrong: String =
                text.char_indices().map(|(i, old)| if i == at { c } else { old }).collect();
            // A blank in place of the last character is trimmed away: cut short.
            assert!(wrong == text || parse(&wrong).is_err(), "{wrong}");
        }
    }
}

#[test]
fn added_and_doubled_text_is_found() {
    let text = token(&["192.0.2.1:7946"]).to_string();
    for wrong in [format!("{text}0"), format!("{text}-"), format!("{text}{text}")] {
        assert_eq!(parse(&wrong), Err(TokenError::Mistyped), "{wrong}");
    }
    assert_eq!(parse(&format!(" {text}\n")), parse(&text));
}

#[test]
fn secret_is_compared_and_never_shown() {
    let token = token(&[]);
    assert!(token.secret.matches(b"0123456789abcdef"));
    assert!(!token.secret.matches(b"0123456789abcdeg"));
    assert!(!token.secret.matches(b"0123456789abcde"));
    assert!(!token.secret.matches(b""));
    let shown = format!("{token:?}");
    assert!(shown.contains("JoinSecret(…)") && !shown.contains("0123456789"), "{shown}");
}

fn any_addr() -> impl Strategy<Value = SocketAddr> {
    prop_oneof![
        (any::<Ipv4Addr>(), any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip.into(), port)),
        (any::<Ipv6Addr>(), any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip.into(), port)),
    ]
}

proptest! {
    #[test]
    fn round_trips(
        ca in any::<[u8; 32]>(),
        secret in any::<[u8; 16]>(),
        manager in any::<bool>(),
        addrs in prop::collection::vec(any_addr(), 0..9),
    ) {
        let token = JoinToken {
            ca_fingerprint: Fingerprint(ca),
            secret: JoinSecret::from_bytes(secret),
            role: if manager { Role::Manager } else { Role::Worker },
            addrs,
        };
        prop_assert_eq!(parse(&token.to_string()), Ok(token));
    }

    #[test]
    fn never_panics(text in "(SWMN-1-)?[0-9a-z-]{0,200}|\\PC{0,60}") {
        let _ = parse(&text);
    }
}
