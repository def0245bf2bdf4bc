//! The route family as `ip` and other programs see it: devices are born with every property asked for, what the kernel refuses
//! is told in its own words.

mod common;

use common::TestNetns;
use swarmnet_dataplane::{FdbTo, LinkChange, LinkName, PortFlags, Vxlan};
use swarmnet_kernel::route::{NewLink, Route};
use swarmnet_types::{Mac, Vni};

fn name(text: &str) -> LinkName {
    LinkName::new(text).expect("a short name")
}

fn new(name: &LinkName) -> NewLink<'_> {
    let mac = Some(Mac([2, 0x53, 0, 0, 0, 7]));
    NewLink { name, mac, mtu_bytes: Some(1430), alias: "swarmnet test", no_link_local: true }
}

const FLAGS: PortFlags = PortFlags {
    learning: false,
    flood: false,
    mcast_flood: true,
    bcast_flood: false,
    isolated: true,
    hairpin: true,
};

#[track_caller]
fn assert_says(text: &str, words: &[&str]) {
    let missing: Vec<_> = words.iter().filter(|word| !text.contains(**word)).collect();
    assert!(missing.is_empty(), "{missing:?} is missing in: {text}");
}

#[test]
fn devices_are_born_with_all_that_was_asked_for() {
    let (here, there) = (TestNetns::new("here"), TestNetns::new("there"));
    let mut route = Route::open(&here.netns()).expect("open");
    let mut peer_route = Route::open(&there.netns()).expect("open");
    let (br, vx, port, eth) = (name("br"), name("vx"), name("port"), name("eth0"));
    let common = ["02:53:00:00:00:07", "mtu 1430", "alias swarmnet test", "addrgenmode none"];
    route.add_bridge(&new(&br), false).expect("bridge");
    let seen = here.ip("-d link show br");
    assert_says(&seen, &common);
    assert_says(&seen, &["ageing_time 0 ", "stp_state 0 ", "mcast_snooping 0 "]);
    for (local, words) in [("192.0.2.1", "local 192.0.2.1"), ("2001:db8::1", "local 2001:db8::1")] {
        let local = local.parse().expect("an address");
        let vxlan = Vxlan { vni: Vni::new(4101).expect("24 bits"), local, port: 4790, proxy: true };
        let home = Some((&there.netns(), &mut peer_route));
        route.add_vxlan(&new(&vx), &vxlan, home).expect("vxlan");
        let seen = there.ip("-d link show vx");
        assert_says(&seen, &common);
        let flags = ["dstport 4790", "nolearning", "proxy", "ttl 64", "udpcsum", "udp6zerocsumrx"];
        assert_says(&seen, &[&["id 4101", words][..], &flags].concat());
        peer_route.del_link(&vx).expect("delete");
    }
    route.add_veth(&new(&port), &new(&eth), &there.netns(), &mut peer_route).expect("veth");
    assert_says(&there.ip("-d link show eth0"), &common);
    route.set_link(&port, &LinkChange::Master(Some(br))).expect("master");
    route.set_link(&port, &LinkChange::Port(FLAGS)).expect("port");
    let seen = here.ip("-d link show port");
    assert_says(&seen, &["learning off", " flood off", "mcast_flood on", "bcast_flood off"]);
    assert_says(&seen, &["isolated on", "hairpin on", "master br"]);
    let links = route.links().expect("links");
    let seen = links.iter().find(|seen| seen.name == port).expect("the port");
    assert_eq!(seen.link.port, Some(FLAGS));
}

#[test]
fn a_refusal_is_told_in_the_kernels_own_words() {
    let ns = TestNetns::new("no");
    let mut route = Route::open(&ns.netns()).expect("open");
    let (br, gone) = (name("br"), name("gone"));
    route.add_bridge(&new(&br), false).expect("bridge");
    // A port's flags for a device that is in no bridge are refused, not dropped.
    let err = route.set_link(&br, &LinkChange::Port(FLAGS)).expect_err("no port");
    assert!(err.to_string().contains("not supported"), "{err}");
    let vtep = FdbTo::Vtep("192.0.2.9".parse().expect("an address"));
    let err = route.put_fdb(&gone, Mac([2, 0, 0, 0, 0, 1]), &vtep).expect_err("no device");
    assert!(err.is_gone() && err.to_string() == "no link `gone`", "{err}");
    let addr = "192.0.2.1/24".parse().expect("a network");
    route.add_addr(&br, addr).expect("the first time");
    let err = route.add_addr(&br, addr).expect_err("twice");
    assert!(err.is_stale() && err.to_string().contains("assigned"), "{err}");
}
