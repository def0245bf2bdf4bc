//! Networks of this node alone: names, pools, defaults, refusals.

use super::*;

fn objects() -> LocalObjects {
    let mut objects = LocalObjects::default();
    let ids = [1, 2, 3].map(|n| NetworkId::from_bytes([n; 16]));
    for network in predefined(&objects, ids, 7, &Routes::default()).expect("pools are free") {
        objects.networks.insert(network.id, Arc::new(network));
    }
    objects
}

fn spec(name: &str) -> NetworkSpec {
    NetworkSpec::named(Name::new(name).expect("a name"), Driver::Bridge)
}

fn subnet(text: &str) -> Subnet {
    text.parse().expect("a subnet")
}

fn granted(objects: &LocalObjects, spec: NetworkSpec) -> Result<Network, String> {
    let id = NetworkId::from_bytes([9; 16]);
    grant(objects, spec, id, (7, &Routes::default())).map_err(|e| e.to_string())
}

#[test]
fn every_node_has_bridge_host_and_none_once() {
    let objects = objects();
    let bridge = objects.networks.values().find(|n| n.spec.name.as_str() == "bridge");
    let bridge = bridge.expect("there is one");
    assert_eq!(bridge.subnets[0].subnet, subnet("172.17.0.0/16"));
    assert_eq!(bridge.subnets[0].gateway, "172.17.0.1".parse().ok());
    assert_eq!(bridge.spec.bridge_name(), Some("swarmnet0"));
    assert!(!bridge.resolves_names());
    let ids = [4, 5, 6].map(|n| NetworkId::from_bytes([n; 16]));
    let again = predefined(&objects, ids, 8, &Routes::default()).expect("nothing to allocate");
    assert!(again.is_empty());
}

#[test]
fn pools_step_around_routes_and_networks_and_end() {
    let mut objects = objects();
    let routes = Routes(vec![subnet("172.18.5.0/24"), subnet("192.168.0.0/17")]);
    let mut got = Vec::new();
    for n in 10..=255 {
        let id = NetworkId::from_bytes([n; 16]);
        match grant(&objects, spec(&format!("n{n}")), id, (0, &routes)) {
            Ok(network) => {
                got.push(network.subnets[0].subnet.to_string());
                objects.networks.insert(id, Arc::new(network));
            }
            Err(err) => {
                assert_eq!(
                    err.to_string(),
                    "all predefined address pools have been fully subnetted"
                );
                break;
            }
        }
    }
    assert_eq!(got.first().map(String::as_str), Some("172.19.0.0/16"));
    assert_eq!(got.last().map(String::as_str), Some("192.168.240.0/20"));
    assert_eq!(got.len(), 13 + 8);
}

#[test]
fn both_families_and_an_own_prefix() {
    let objects = objects();
    let network = granted(&objects, NetworkSpec { ipv6: true, ..spec("a") }).expect("granted");
    let texts: Vec<_> = network.subnets.iter().map(|s| s.subnet.to_string()).collect();
    assert_eq!(texts, ["172.18.0.0/16", "fd01:101:101::/64"]);
    assert!(network.subnets.iter().all(|s| s.gateway.is_some()));
}

#[test]
fn dockers_refusals() {
    let objects = objects();
    let with =
        |text: &str| NetworkSpec { subnets: vec![SubnetSpec::plain(subnet(text))], ..spec("a") };
    let two = NetworkSpec {
        subnets: vec![
            SubnetSpec::plain(subnet("10.0.0.0/24")),
            SubnetSpec::plain(subnet("10.0.1.0/24")),
        ],
        ..spec("a")
    };
    let mut named = spec("a");
    named.options.insert("bridge.name".into(), DEFAULT_BRIDGE.into());
    let mut long = spec("a");
    long.options.insert("bridge.name".into(), "a-name-of-16-chr".into());
    let host = NetworkSpec { driver: Driver::Host, ..spec("a") };
    for (spec, words) in [
        (with("172.17.8.0/24"), "overlaps 172.17.0.0/16 of network bridge"),
        (two, "bridge driver doesn't support multiple subnets"),
        (named, "same bridge name"),
        (long, "invalid bridge name"),
        (host, "only one instance of \"host\" network is allowed"),
        (spec("bridge"), "bridge is a pre-defined network and cannot be created"),
    ] {
        let err = granted(&objects, spec).expect_err(words);
        assert!(err.contains(words), "{err}");
    }
    let routes = Routes(vec![subnet("10.0.0.0/8")]);
    let id = NetworkId::from_bytes([9; 16]);
    let err = grant(&objects, with("10.1.0.0/24"), id, (0, &routes)).expect_err("a route");
    assert!(err.to_string().contains("overlaps the host's route 10.0.0.0/8"), "{err}");
}

#[test]
fn predefined_networks_stay() {
    let objects = objects();
    for network in objects.networks.values() {
        let err = check_removal(&objects, network).expect_err("predefined");
        assert!(err.to_string().ends_with("is a pre-defined network and cannot be removed"));
    }
}
