//! The pure planners of the data plane: from what a node should do and what its kernel holds to the operations between.
#![forbid(unsafe_code)]

pub mod nft;
