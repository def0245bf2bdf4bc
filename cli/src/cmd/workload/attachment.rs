//! `--network`: Docker's `name=NET,ip=…` and the shorter `NET:ip=…,alias=…` (`sw:R1`, `sw:R2`).

use swarmnet_types::{AttachmentSpec, Name};

use crate::error::CliError;

/// Parses one `--network` word. Unlike Docker's, values keep their case.
pub(super) fn parse(word: &str) -> Result<AttachmentSpec, CliError> {
    let mut spec = AttachmentSpec::default();
    let fields = match word.split_once(':') {
        Some((network, fields)) if !network.contains('=') => {
            network.clone_into(&mut spec.network);
            fields
        }
        _ if word.contains('=') => word,
        _ => {
            word.clone_into(&mut spec.network);
            ""
        }
    };
    for field in fields.split(',').filter(|f| !f.is_empty()) {
        let (key, value) = field
            .split_once('=')
            .ok_or_else(|| CliError::usage(format!("invalid field {field}: want key=value")))?;
        set(&mut spec, key, value)?;
    }
    if spec.network.is_empty() {
        return Err(CliError::usage("network name/id is not specified"));
    }
    Ok(spec)
}

fn set(spec: &mut AttachmentSpec, key: &str, value: &str) -> Result<(), CliError> {
    let bad = |what: &str| CliError::usage(format!("invalid {what}: {value}"));
    match key.to_ascii_lowercase().as_str() {
        "name" => value.clone_into(&mut spec.network),
        "ip" => spec.ipv4 = Some(value.parse().map_err(|_| bad("IPv4 address"))?),
        "ip6" => spec.ipv6 = Some(value.parse().map_err(|_| bad("IPv6 address"))?),
        "alias" => spec.aliases.push(Name::new(value).map_err(CliError::usage)?),
        "mac-address" => spec.mac = Some(value.parse().map_err(CliError::usage)?),
        "gw-priority" => {
            spec.gw_priority = value
                .parse()
                .map_err(|err| CliError::usage(format!("invalid gw-priority ({value}): {err}")))?;
        }
        "driver-opt" => {
            let (option, value) = value.split_once('=').ok_or_else(|| {
                CliError::usage("invalid key/value pair format in driver options")
            })?;
            spec.driver_opts.insert(option.to_owned(), value.to_owned());
        }
        _ => return Err(CliError::usage(format!("invalid field key {key}"))),
    }
    Ok(())
}

/// Puts the flat flags (`--ip`, `--network-alias` …) on the first network.
pub(super) fn merge_flat(
    attachments: &mut Vec<AttachmentSpec>,
    flat: AttachmentSpec,
) -> Result<(), CliError> {
    for (i, one) in attachments.iter().enumerate() {
        if attachments[..i].iter().any(|a| a.network == one.network) {
            return Err(CliError::usage(format!(
                "network \"{}\" is specified multiple times",
                one.network
            )));
        }
    }
    if attachments.is_empty() {
        attachments.push(AttachmentSpec { network: "bridge".to_owned(), ..flat });
        return Ok(());
    }
    let first = &mut attachments[0];
    let both = |flag: &str, what: &str| {
        CliError::usage(format!(
            "conflicting options: cannot specify both {flag} and per-network {what}"
        ))
    };
    if flat.ipv4.is_some() && first.ipv4.is_some() {
        return Err(both("--ip", "IPv4 address"));
    }
    if flat.ipv6.is_some() && first.ipv6.is_some() {
        return Err(both("--ip6", "IPv6 address"));
    }
    if flat.mac.is_some() && first.mac.is_some() {
        return Err(both("--mac-address", "MAC address"));
    }
    first.ipv4 = first.ipv4.or(flat.ipv4);
    first.ipv6 = first.ipv6.or(flat.ipv6);
    first.mac = first.mac.or(flat.mac);
    first.aliases.extend(flat.aliases);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_say_the_same() {
        let long =
            parse("name=over,ip=10.0.1.5,alias=db,gw-priority=-2,driver-opt=a=b").expect("valid");
        let short =
            parse("over:ip=10.0.1.5,alias=db,gw-priority=-2,driver-opt=a=b").expect("valid");
        assert_eq!(long, short);
        assert_eq!(long.gw_priority, -2);
        assert_eq!(parse("over").expect("valid").network, "over");
        assert_eq!(parse("name=over,ip6=fd00::5").expect("valid").ipv6, "fd00::5".parse().ok());
    }

    #[test]
    fn faults_are_named() {
        for (word, want) in [
            ("ip=10.0.0.1", "network name/id is not specified"),
            ("over:ip=x", "invalid IPv4 address: x"),
            ("over:foo=1", "invalid field key foo"),
            ("over:gw-priority=x", "invalid gw-priority (x): invalid digit found in string"),
            ("over:driver-opt=x", "invalid key/value pair format in driver options"),
        ] {
            assert_eq!(parse(word).expect_err(word).to_string(), want);
        }
        let mut twice = vec![parse("a").expect("valid"), parse("a").expect("valid")];
        let err = merge_flat(&mut twice, AttachmentSpec::default()).expect_err("twice");
        assert_eq!(err.to_string(), "network \"a\" is specified multiple times");
    }

    #[test]
    fn flat_flags_go_to_the_first_network_or_the_default_one() {
        let flat = AttachmentSpec { ipv4: "10.0.0.9".parse().ok(), ..AttachmentSpec::default() };
        let mut none = Vec::new();
        merge_flat(&mut none, flat.clone()).expect("valid");
        assert_eq!((none[0].network.as_str(), none[0].ipv4), ("bridge", flat.ipv4));
        let mut clash = vec![parse("a:ip=10.0.0.1").expect("valid")];
        assert!(merge_flat(&mut clash, flat).is_err());
    }
}
