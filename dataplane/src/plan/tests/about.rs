//! What is missing is told of the object that it is, and of no other.

use std::net::IpAddr;

use crate::nft::Table;
use crate::object::LinkName;
use crate::seen::{self, Balancing};

use super::*;

fn up() -> ModelKernel {
    let kernel = ModelKernel::default();
    bring(&kernel, &world());
    kernel
}

fn is_as_wished(kernel: &ModelKernel, ns: Ns, object: Object<'_>) -> bool {
    plan(&kernel.seen(), &world()).about(ns, object).next().is_none()
}

fn meddle(kernel: &ModelKernel, ns: Ns, change: impl FnOnce(&mut NsState)) {
    kernel.meddle(|actual| change(actual.namespaces.get_mut(&ns).expect("it is there")));
}

fn vxlan() -> LinkName {
    link("vx-4097")
}

fn vip(host: u16) -> IpAddr {
    dual(0, host).iter().next().expect("it has IPv4")
}

fn inet(state: &mut NsState) -> &mut Table {
    let tables = state.tables.as_mut().expect("looked at");
    tables.values_mut().find(|t| t.id.family == Family::Inet).expect("a table")
}

#[test]
fn what_was_brought_about_is_as_wished() {
    let kernel = up();
    let vx = vxlan();
    let remote = dual(0, 10);
    let (addr, mac) = (vip(10), remote.mac().expect("it has addresses"));
    for (ns, object) in [
        (Ns::Overlay, Object::Link(&vx)),
        (Ns::Overlay, Object::Fdb(&vx, mac)),
        (Ns::Overlay, Object::Neighbour(&vx, addr)),
        (Ns::Sandbox(sandbox(1)), Object::Link(&link("eth0"))),
        (Ns::Sandbox(sandbox(1)), Object::Vip(vip(100))),
        (Ns::Node, Object::Port { key: port(5000), ipv6: false }),
    ] {
        assert!(is_as_wished(&kernel, ns, object), "{object:?}");
    }
}

#[test]
fn a_missing_entry_is_told_of_its_own_mac_alone() {
    let kernel = up();
    let vx = vxlan();
    let [lost, kept] = [10, 11].map(|host| dual(0, host).mac().expect("it has addresses"));
    meddle(&kernel, Ns::Overlay, |ns| drop(ns.fdb.remove(&(vx.clone(), lost))));
    assert!(!is_as_wished(&kernel, Ns::Overlay, Object::Fdb(&vx, lost)));
    assert!(is_as_wished(&kernel, Ns::Overlay, Object::Fdb(&vx, kept)));
    assert!(is_as_wished(&kernel, Ns::Overlay, Object::Neighbour(&vx, vip(10))));
    assert!(is_as_wished(&kernel, Ns::Overlay, Object::Link(&vx)));
}

#[test]
fn a_pair_is_told_of_both_ends() {
    let kernel = up();
    let outer = names::endpoint_link(endpoint(1));
    kernel
        .apply_now(&Op::DelLink { ns: Ns::Overlay, name: outer.clone() })
        .expect("the model removes it");
    assert!(!is_as_wished(&kernel, Ns::Overlay, Object::Link(&outer)));
    assert!(!is_as_wished(&kernel, Ns::Sandbox(sandbox(1)), Object::Link(&link("eth0"))));
    assert!(!is_as_wished(&kernel, Ns::Sandbox(sandbox(1)), Object::Addresses(&link("eth0"))));
    assert!(is_as_wished(&kernel, Ns::Sandbox(sandbox(2)), Object::Link(&link("eth0"))));
}

#[test]
fn balancing_is_read_back_as_it_was_written() {
    let seen = up().seen();
    let inside = &seen.namespaces[&Ns::Sandbox(sandbox(1))];
    for family in [0, 1] {
        let addr = |host| dual(0, host).iter().nth(family).expect("both families");
        let want = Balancing::Among([addr(10), addr(11)].into());
        assert_eq!(seen::vip(inside, addr(100)), want);
        assert_eq!(seen::vip(inside, addr(101)), Balancing::Refused);
        assert_eq!(seen::vip(inside, addr(10)), Balancing::Unknown);
        let task = |host| (dual(254, host).iter().nth(family).expect("both families"), 80).into();
        let node = &seen.namespaces[&Ns::Node];
        let want = Balancing::Among([task(10), task(11)].into());
        assert_eq!(seen::port(node, &port(5000), family == 1), want);
        assert_eq!(seen::port(node, &port(5001), family == 1), Balancing::Unknown);
    }
}

#[test]
fn a_lost_backend_is_told_of_its_own_virtual_address() {
    let kernel = up();
    let at = Ns::Sandbox(sandbox(1));
    let lost = crate::nft::key::ip(vip(100));
    meddle(&kernel, at, |ns| {
        let slots = inet(ns).maps.get_mut("slot4").expect("the map");
        let key = slots.elements.keys().find(|key| key.starts_with(&lost)).cloned();
        slots.elements.remove(&key.expect("a slot"));
    });
    assert!(!is_as_wished(&kernel, at, Object::Vip(vip(100))));
    assert!(is_as_wished(&kernel, at, Object::Vip(vip(101))));
    // A rule that is gone is everybody's loss.
    meddle(&kernel, at, |ns| inet(ns).chains.get_mut("out").expect("the chain").rules.clear());
    assert!(!is_as_wished(&kernel, at, Object::Vip(vip(101))));
    assert!(is_as_wished(&kernel, Ns::Node, Object::Port { key: port(5000), ipv6: false }));
}

#[test]
fn a_lost_port_is_told_of_its_own_family() {
    let kernel = up();
    meddle(&kernel, Ns::Node, |ns| {
        inet(ns).maps.get_mut("port6").expect("the map").elements.clear();
    });
    assert!(!is_as_wished(&kernel, Ns::Node, Object::Port { key: port(5000), ipv6: true }));
    assert!(is_as_wished(&kernel, Ns::Node, Object::Port { key: port(5000), ipv6: false }));
}
