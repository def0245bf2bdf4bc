//! The unix socket of a node: its own calls, and cluster calls passed on to a manager.
