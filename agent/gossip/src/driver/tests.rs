//! The driver over real sockets of this machine.
