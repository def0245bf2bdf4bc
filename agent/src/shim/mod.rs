//! The process between the daemon and a workload: holds its log and its exit code, so that the daemon may restart.
