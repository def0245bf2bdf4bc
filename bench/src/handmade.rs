//! A baseline made by hand with `ip` and `nft`: a script, and the namespaces that it makes.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::lab::output;

const NAMED_DIR: &str = "/run/netns";

/// What the scripts share. Namespace `snb-NAME` is called NAME.
/// - `wire`: a bridge as underlay.
/// - `on_wire NAME ADDRESS`: a namespace with a link to the wire.
/// - `vxlan NAME LOCAL REMOTE`: a device with the other node as its one remote, which learns nothing.
/// - `boxed NODE BOX ADDRESS`: a bridge over the node's VXLAN, without the host's filter, and a box behind it.
const SHARED: &str = "set -e
wire() {
  ip netns add snb-wire
  ip -n snb-wire link add br0 up type bridge
}
on_wire() {
  ip netns add snb-$1
  ip link add eth0 netns snb-$1 type veth peer name $1 netns snb-wire
  ip -n snb-wire link set $1 master br0 up
  ip -n snb-$1 addr add $2 dev eth0
  ip -n snb-$1 link set eth0 up
}
vxlan() {
  ip -n snb-$1 link add vx0 mtu 1450 type vxlan id 42 dstport 4789 nolearning local $2 remote $3 ttl 64
}
boxed() {
  ip -n snb-$1 link add br0 mtu 1450 up type bridge
  ip netns exec snb-$1 sh -c 'cd /proc/sys/net/bridge 2>/dev/null || exit 0; for f in bridge-nf-call-ip*tables; do echo 0 >$f; done'
  ip -n snb-$1 link set vx0 master br0 up
  ip netns add snb-$2
  ip link add eth0 mtu 1450 netns snb-$2 type veth peer name box mtu 1450 netns snb-$1
  ip -n snb-$1 link set box master br0 up
  ip -n snb-$2 addr add $3 dev eth0
  ip -n snb-$2 link set eth0 up
}
";

/// Its namespaces, and with them all of it, go when the value goes.
#[derive(Debug)]
pub(crate) struct HandMade(&'static [&'static str]);

impl HandMade {
    /// The script ends at the first command that fails; it may use what is shared.
    pub(crate) fn make(script: &str, namespaces: &'static [&'static str]) -> Result<Self> {
        let made = Self(namespaces);
        output(Command::new("sh").args(["-c", &[SHARED, script].concat()]))?;
        Ok(made)
    }

    pub(crate) fn netns(&self, name: &str) -> PathBuf {
        debug_assert!(self.0.contains(&name), "{name} is not removed");
        Path::new(NAMED_DIR).join(name)
    }
}

impl Drop for HandMade {
    fn drop(&mut self) {
        for name in self.0 {
            if self.netns(name).exists()
                && let Err(err) = output(Command::new("ip").args(["netns", "del", name]))
            {
                eprintln!("swarmnet-bench: {err:#}");
            }
        }
    }
}
