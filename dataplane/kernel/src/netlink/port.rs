//! Netlink ports of ours. A notice of the kernel carries the port of the socket that asked for the change, of whichever namespace:
//! ours are chosen so that the number alone tells them from others', long after the socket is closed.
//!
//! The kernel itself chooses the process id, at most 2^22, or a number from 2^31: ours lie between, 256 for each process.

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};

use rtnetlink::sys::{Socket as RawSocket, SocketAddr};

/// Above every process id that is shifted by [`BITS`] (`PID_MAX_LIMIT` is 2^22).
const BASE: u32 = 1 << 30;
const BITS: u32 = 8;

fn first() -> u32 {
    BASE | (std::process::id() << BITS)
}

/// Was the change asked for by this process?
pub(crate) fn is_ours(port: u32) -> bool {
    port >> BITS == first() >> BITS
}

/// Gives the socket a port that is free in its namespace.
pub(super) fn bind(socket: &mut RawSocket) -> io::Result<u32> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let mut result = Err(io::ErrorKind::AddrInUse.into());
    for _ in 0..1 << BITS {
        let port = first() | (NEXT.fetch_add(1, Ordering::Relaxed) & ((1 << BITS) - 1));
        result = socket.bind(&SocketAddr::new(port, 0)).map(|()| port);
        if !matches!(&result, Err(err) if err.kind() == io::ErrorKind::AddrInUse) {
            break;
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_of_ours_are_told_from_those_the_kernel_chooses() {
        let pid = std::process::id();
        for foreign in [0, pid, (1 << 22) - 1, 1 << 31, u32::MAX - 4096, first() - 1] {
            assert!(!is_ours(foreign), "{foreign}");
        }
        let open = || {
            let mut socket = RawSocket::new(0).expect("a netlink socket");
            let port = bind(&mut socket).expect("a free port");
            (socket, port)
        };
        let (a, b) = (open(), open());
        assert!(is_ours(a.1) && is_ours(b.1) && a.1 != b.1, "{} {}", a.1, b.1);
    }
}
