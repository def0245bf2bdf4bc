//! Compiles the `.proto` files with protox, so that no `protoc` is needed to build.

use prost::Message as _;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = [
        "swarmnet/v1/admission.proto",
        "swarmnet/v1/control.proto",
        "swarmnet/v1/daemon.proto",
        "swarmnet/v1/node.proto",
        "swarmnet/v1/objects.proto",
        "swarmnet/v1/push.proto",
        "swarmnet/v1/raft.proto",
        "swarmnet/v1/vault.proto",
    ];
    println!("cargo::rerun-if-changed=swarmnet");
    let descriptors = protox::compile(files, ["."])?;
    // For the start-up check that every method has a row in the authorisation table.
    let out = std::path::PathBuf::from(std::env::var("OUT_DIR")?).join("descriptors.bin");
    std::fs::write(out, descriptors.encode_to_vec())?;
    tonic_prost_build::configure().bytes(".").compile_fds(descriptors)?;
    Ok(())
}
