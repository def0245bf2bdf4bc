//! The second witness: does the kernel of a node answer?

use std::future::Future;
use std::net::IpAddr;
use std::time::Duration;

/// One echo request to an address.
pub trait Echo: Send + Sync + 'static {
    /// Whether `addr` answered within `timeout`. A request that could not be sent was not answered.
    fn echo(&self, addr: IpAddr, timeout: Duration) -> impl Future<Output = bool> + Send;
}
