//! `swarmnet network create`: Docker's flags into a [`NetworkSpec`].

use std::net::IpAddr;

use clap::Args;
use swarmnet_types::{Driver, Name, NetworkSpec, Scope, Subnet, SubnetSpec};

use crate::cmd::refs::key_values;
use crate::error::CliError;

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// Name of the network
    name: String,
    /// Who builds it: bridge, overlay, host, none
    #[arg(short, long, default_value = "bridge")]
    driver: String,
    /// A subnet such as 10.0.1.0/24 or fd00:1::/64; repeatable
    #[arg(long = "subnet", value_delimiter = ',')]
    subnets: Vec<String>,
    /// The gateway of a subnet
    #[arg(long = "gateway", value_delimiter = ',')]
    gateways: Vec<IpAddr>,
    /// Give addresses from this part of a subnet only
    #[arg(long = "ip-range", value_delimiter = ',')]
    ip_ranges: Vec<String>,
    /// NAME=ADDRESS: an address that is never given
    #[arg(long = "aux-address", value_delimiter = ',')]
    aux_addresses: Vec<String>,
    /// Give IPv6 addresses
    #[arg(long)]
    ipv6: bool,
    /// Give IPv4 addresses (`--ipv4=false`: IPv6 only)
    #[arg(long, default_value_t = true, num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set, require_equals = true)]
    ipv4: bool,
    /// No way out and none in
    #[arg(long)]
    internal: bool,
    /// Sandboxes outside services may join
    #[arg(long)]
    attachable: bool,
    /// The network behind published ports
    #[arg(long)]
    ingress: bool,
    /// local or cluster
    #[arg(long)]
    scope: Option<String>,
    /// A driver option
    #[arg(short, long = "opt", value_name = "KEY=VALUE")]
    options: Vec<String>,
    /// A label
    #[arg(long = "label", value_name = "KEY[=VALUE]")]
    labels: Vec<String>,
    /// Do not wait until every node knows it
    #[arg(long)]
    pub(crate) detach: bool,
}

impl CreateArgs {
    /// Checks that need nothing but the words (`sw:C1`–`sw:C7`); the rest is the manager's.
    pub(crate) fn into_spec(self) -> Result<NetworkSpec, CliError> {
        let driver: Driver = self.driver.parse().map_err(CliError::failure)?;
        let scope = match self.scope.as_deref() {
            None | Some("") => driver.default_scope(),
            Some("local") => Scope::Local,
            Some("cluster" | "swarm" | "global") => Scope::Cluster,
            Some(other) => {
                return Err(CliError::usage(format!(
                    "invalid scope `{other}`: want local or cluster"
                )));
            }
        };
        let subnets = subnets(&self)?;
        let ipv6 = self.ipv6 || subnets.iter().any(|s| s.subnet.is_ipv6());
        Ok(NetworkSpec {
            name: Name::new(self.name).map_err(CliError::usage)?,
            driver,
            scope,
            subnets,
            ipv4: self.ipv4,
            ipv6,
            internal: self.internal,
            attachable: self.attachable,
            ingress: self.ingress,
            options: key_values(&self.options)?,
            labels: key_values(&self.labels)?,
        })
    }
}

/// Puts each gateway, range and reserved address with its subnet.
fn subnets(args: &CreateArgs) -> Result<Vec<SubnetSpec>, CliError> {
    let texts = &args.subnets;
    if args.ip_ranges.len() > texts.len() || args.gateways.len() > texts.len() {
        return Err(CliError::usage("every ip-range or gateway must have a corresponding subnet"));
    }
    let mut specs: Vec<SubnetSpec> = Vec::new();
    for text in texts {
        let subnet: Subnet = text.parse().map_err(CliError::usage)?;
        if specs.iter().any(|s| s.subnet.overlaps(&subnet)) {
            return Err(CliError::usage(
                "multiple overlapping subnet configuration is not supported",
            ));
        }
        specs.push(SubnetSpec::plain(subnet));
    }
    for text in &args.ip_ranges {
        let range: Subnet = text
            .parse()
            .map_err(|err| CliError::usage(format!("invalid ip-range {text}: {err}")))?;
        let spec = holder(&mut specs, range.net().addr())
            .ok_or_else(|| CliError::usage(format!("no matching subnet for range {range}")))?;
        if let Some(first) = spec.ip_range.replace(range) {
            return Err(CliError::usage(format!(
                "cannot configure multiple ranges ({range}, {first}) on the same subnet ({})",
                spec.subnet
            )));
        }
    }
    for gateway in &args.gateways {
        let spec = holder(&mut specs, *gateway)
            .ok_or_else(|| CliError::usage(format!("no matching subnet for gateway {gateway}")))?;
        if let Some(first) = spec.gateway.replace(*gateway) {
            return Err(CliError::usage(format!(
                "cannot configure multiple gateways ({gateway}, {first}) for the same subnet ({})",
                spec.subnet
            )));
        }
    }
    for (name, text) in key_values(&args.aux_addresses)? {
        let addr: IpAddr = text
            .parse()
            .map_err(|_| CliError::usage(format!("invalid auxiliary address {name}: {text}")))?;
        let spec = holder(&mut specs, addr)
            .ok_or_else(|| CliError::usage(format!("no matching subnet for aux-address {addr}")))?;
        spec.aux_addresses.insert(name, addr);
    }
    Ok(specs)
}

fn holder(specs: &mut [SubnetSpec], addr: IpAddr) -> Option<&mut SubnetSpec> {
    specs.iter_mut().find(|s| s.subnet.contains(addr))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Wrap {
        #[command(flatten)]
        args: CreateArgs,
    }

    fn spec(line: &str) -> Result<NetworkSpec, CliError> {
        let words = std::iter::once("create").chain(line.split_whitespace());
        Wrap::try_parse_from(words).expect("clap takes it").args.into_spec()
    }

    #[test]
    fn everything_goes_with_its_subnet() {
        let spec = spec(
            "-d overlay --subnet 10.1.0.0/24 --subnet fd00:1::/64 --gateway fd00:1::9 --gateway 10.1.0.9 \
             --ip-range 10.1.0.128/25 --aux-address printer=10.1.0.7 --opt encrypted=false --label a n1",
        )
        .expect("valid");
        assert!(spec.ipv6 && spec.ipv4 && spec.scope == Scope::Cluster);
        assert_eq!(spec.subnets[0].gateway, "10.1.0.9".parse().ok());
        assert_eq!(spec.subnets[0].aux_addresses.len(), 1);
        assert_eq!(spec.subnets[1].gateway, "fd00:1::9".parse().ok());
        assert_eq!(spec.options["encrypted"], "false");
        assert_eq!(spec.labels["a"], "");
    }

    #[test]
    fn faults_are_named_as_docker_does() {
        for (line, want) in [
            ("--gateway 10.0.0.1 n", "every ip-range or gateway must have a corresponding subnet"),
            (
                "--subnet 10.0.0.0/24 --gateway 10.1.0.1 n",
                "no matching subnet for gateway 10.1.0.1",
            ),
            (
                "--subnet 10.0.0.0/24 --ip-range 10.1.0.0/25 n",
                "no matching subnet for range 10.1.0.0/25",
            ),
            (
                "--subnet 10.0.0.0/24 --aux-address a=10.1.0.1 n",
                "no matching subnet for aux-address 10.1.0.1",
            ),
            (
                "--subnet 10.0.0.0/8,10.1.0.0/16 n",
                "multiple overlapping subnet configuration is not supported",
            ),
            (
                "--subnet 10.0.0.0/24,10.0.1.0/24 --gateway 10.0.0.1,10.0.0.2 n",
                "cannot configure multiple gateways (10.0.0.2, 10.0.0.1) for the same subnet (10.0.0.0/24)",
            ),
            ("--subnet 10.0.0.0 n", "invalid subnet: invalid CIDR address: 10.0.0.0"),
            ("--subnet 10.0.0.1/24 n", "invalid subnet 10.0.0.1/24: it should be 10.0.0.0/24"),
            ("a/b", "name must be valid as a DNS name component: `a/b`"),
            ("--scope moon n", "invalid scope `moon`: want local or cluster"),
        ] {
            assert_eq!(spec(line).expect_err(line).to_string(), want);
        }
    }
}
